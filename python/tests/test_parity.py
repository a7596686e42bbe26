"""DuckDB and Spark give the same rows, with faults in the data, in steps, and killed in between."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time

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


@pytest.mark.spark
@pytest.mark.timeout(1800)
def test_every_table_is_the_same_on_both_engines(both: Lakehouse) -> None:
    tables, found = compare(both.home / "lake")
    assert found == []
    assert tables > 40
    (rows,) = both.query("select count(*) from quarantine.retail__transactions")[0]
    assert rows > 100
