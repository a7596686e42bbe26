"""DuckDB and Spark give the same rows, with faults in the data, in steps, and killed in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import FAULTS
from lakebed.parity import compare
from lakehouse import REPO, Lakehouse

PROVES = ["pat-idempotent", "pat-medallion-lakehouse"]

AS_OF = "2018-02-01 00:00:00"
LAND = ("--promotion-weeks", "1", *FAULTS)
RUN = ["dbt", "build", "--exclude", "resource_type:unit_test"]


@pytest.fixture(scope="module")
def both(spark: None, tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:  # noqa: ARG001
    """Two deliveries, built on both engines after each; the second on Spark is killed once."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("both"))
    lakehouse.land("--until", "2017-01-06", *LAND)
    lakehouse.dbt(*RUN[1:])
    started = time.monotonic()
    lakehouse.dbt(*RUN[1:], "--target", "spark_local")
    length = time.monotonic() - started

    lakehouse.land("--until", "2017-01-20", *LAND)
    lakehouse.dbt(*RUN[1:])
    kill_build(lakehouse, random.Random(3).uniform(0.2, 0.5) * length)
    lakehouse.dbt(*RUN[1:], "resource_type:test", "--target", "spark_local")
    return lakehouse


def kill_build(lakehouse: Lakehouse, after: float) -> None:
    build = subprocess.Popen(
        [
            *RUN,
            "resource_type:test",
            "--target",
            "spark_local",
            "--vars",
            json.dumps({"as_of": AS_OF}),
        ],
        cwd=REPO,
        env=lakehouse.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        build.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(build.pid, signal.SIGKILL)
    assert build.wait() == -signal.SIGKILL, "it ended before it was killed"


def spark_sql(home: Path, sql: str) -> list[list[Any]]:
    """The rows of a statement, asked in a process of its own."""
    script = """
import json, sys
from pathlib import Path
from lakebed.spark.settings import session
print(json.dumps(session(Path(sys.argv[1])).sql(sys.argv[2]).collect()))
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(home / "spark"), sql],
        check=True,
        capture_output=True,
        text=True,
        cwd=REPO,
    )
    rows: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return rows


@pytest.mark.spark
@pytest.mark.timeout(1800)
def test_every_table_is_the_same_on_both_engines(both: Lakehouse) -> None:
    tables, found = compare(both.home / "lake")
    assert found == []
    assert tables > 40
    (rows,) = both.query("select count(*) from quarantine.retail__transactions")[0]
    assert rows > 100


@pytest.mark.spark
@pytest.mark.timeout(600)
def test_what_was_read_is_settled(both: Lakehouse) -> None:
    """Else the next build would read it again, and again: right, but ever slower."""
    positions = spark_sql(
        both.home / "lake",
        "select previous_batch = batch, count(*) from ops.positions where source != 'landing'"
        " group by all",
    )
    assert len(positions) == 1, positions
    assert positions[0][0] is True


@pytest.mark.spark
@pytest.mark.timeout(600)
def test_one_row_that_differs_is_shown(both: Lakehouse) -> None:
    home = both.home / "lake"
    (store,) = both.query("select max(store_id) from gold.dim_stores")[0]
    spark_sql(home, f"update gold.dim_stores set store_key = 'other' where store_id = {store}")
    _, found = compare(home)
    assert [(each.table, each.what) for each in found] == [
        ("gold.dim_stores", "1 rows only on DuckDB; 1 rows only on Spark")
    ]
    assert [side for side, _ in found[0].rows] == ["DuckDB", "Spark"]
    assert "other" in found[0].rows[1][1]
