"""dbt's own tests of adapters, where Lakebed adds to dbt-spark or mends it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dbt.tests.adapter.incremental import test_incremental_microbatch as microbatch
from dbt.tests.adapter.incremental.test_incremental_microbatch import BaseMicrobatch
from dbt.tests.adapter.python_model.test_python_model import (
    BasePythonIncrementalTests,
    BasePythonModelTests,
)
from dbt.tests.adapter.simple_snapshot import new_record_timestamp_mode as statements
from dbt.tests.adapter.simple_snapshot.new_record_check_mode import BaseSnapshotNewRecordCheckMode
from dbt.tests.adapter.simple_snapshot.new_record_timestamp_mode import (
    BaseSnapshotNewRecordTimestampMode,
)
from harness import ROOT
from lakebed.spark.cluster import Cluster

pytestmark = [pytest.mark.spark, pytest.mark.soak]  # each is proved by a test of our own, too
PROVES = ["pat-medallion-lakehouse"]
pytest_plugins = ["dbt.tests.fixtures.project"]

KINDS = ("models", "seeds", "snapshots", "data_tests", "exposures")
#: What a project on Spark copies.
COPIED = ("spark_incremental.sql", "spark_snapshots.sql")


class OnSpark:
    """A project that installs Lakebed, in a schema of the cluster; dbt runs in this process."""

    @pytest.fixture(scope="class")
    def dbt_profile_target(self, cluster: Cluster) -> Iterator[dict[str, Any]]:
        before = dict(os.environ)
        os.environ.update(cluster.environment)
        target = {"type": "spark", "method": "thrift", "host": "127.0.0.1", "user": "lakebed"}
        yield target | {"port": cluster.thrift, "threads": 1, "poll_interval": 0}
        os.environ.clear()
        os.environ.update(before)

    @pytest.fixture(scope="class")
    def project_config_update(self) -> dict[str, Any]:
        update: dict[str, Any] = {kind: {"lakebed": {"+enabled": False}} for kind in KINDS}
        for kind in KINDS[:3]:
            update[kind]["+file_format"] = "delta"
        update["models"]["+incremental_strategy"] = "merge"
        return update

    @pytest.fixture(scope="class")
    def macros(self) -> dict[str, str]:
        return {name: (ROOT / "macros" / "engine" / name).read_text("utf-8") for name in COPIED}

    @pytest.fixture(scope="class")
    def packages(self) -> dict[str, Any]:
        return {"packages": [{"local": str(ROOT)}]}

    @pytest.fixture(scope="class", autouse=True)
    def lakebed(self, project: Any) -> None:
        """What `dbt deps` does for a local package."""
        package = Path(project.project_root) / "dbt_packages" / "lakebed"
        package.mkdir(parents=True)
        for name in ("dbt_project.yml", "macros"):
            (package / name).symlink_to(ROOT / name)


def in_spark(sql: str) -> str:
    """A statement of PostgreSQL's."""
    for theirs, ours in (
        ("{database}.", ""),
        ("{{target.database}}.", ""),
        ("TIMESTAMP WITHOUT TIME ZONE", "timestamp"),
        (" TEXT", " string"),
        ("null::timestamp", "cast(null as timestamp)"),
        ("updated_at::text", "cast(updated_at as string)"),
    ):
        sql = sql.replace(theirs, ours)
    sql = sql.strip().removesuffix(";")
    return f"{sql} using delta" if sql.startswith("create table") else sql


class Snapshots(OnSpark):
    @pytest.fixture(scope="class")
    def snapshots(self) -> dict[str, str]:
        return {"snapshot.sql": in_spark(statements._snapshot_actual_sql)}

    @pytest.fixture(scope="class")
    def seed_new_record_mode_statements(self) -> list[str]:
        return [in_spark(each) for each in statements._seed_new_record_mode_statements]

    @pytest.fixture(scope="class")
    def invalidate_sql_statements(self) -> list[str]:
        return [in_spark(each) for each in statements._invalidate_sql_statements]

    @pytest.fixture(scope="class")
    def update_sql(self) -> str:
        return in_spark(statements._update_sql)

    @pytest.fixture(scope="class")
    def delete_sql(self) -> str:
        return in_spark(statements._delete_sql)

    @pytest.fixture(scope="class")
    def reinsert_sql(self) -> str:
        return in_spark(statements._reinsert_sql)


class TestMicrobatch(OnSpark, BaseMicrobatch):
    @pytest.fixture(scope="class")
    def microbatch_model_sql(self) -> str:
        """Lakebed refuses a unique_key, which an exchange of an interval does not need."""
        return microbatch._microbatch_model_sql.replace("unique_key='id', ", "")


class TestSnapshotByTime(Snapshots, BaseSnapshotNewRecordTimestampMode):
    pass


class TestSnapshotByCheck(Snapshots, BaseSnapshotNewRecordCheckMode):
    pass


class TestPython(OnSpark, BasePythonModelTests):
    pass


class TestIncrementalPython(OnSpark, BasePythonIncrementalTests):
    pass
