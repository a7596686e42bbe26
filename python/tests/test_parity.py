"""DuckDB and Spark give the same rows, with faults in the data, in steps, and workers killed."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
from conftest import FAULTS
from lakebed.parity import compare
from lakebed.spark.cluster import Cluster, down, free_ports, running, workers
from lakebed.spark.settings import connect_session
from lakehouse import REPO, Lakehouse

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1800)]
PROVES = ["pat-idempotent", "pat-medallion-lakehouse"]

AS_OF = "2018-02-01 00:00:00"
#: Of a file of coupons or promotions: Spark would parse each of half a million four times.
LINES = 20_000
LAND = ("--promotion-weeks", "1", *FAULTS)
BUILD = ("build", "--exclude", "resource_type:unit_test")
#: Unit tests run on Spark as on DuckDB; they see no data, so once is enough.
UNIT_TESTS = ("build", "--exclude", "resource_type:test")
NO_TESTS = (*BUILD[1:], "resource_type:test")
#: Of the second delivery: sales and households, what grows of them and needs of it; the other
#: entities grow by the same macros, and in the soak. A table is made anew by its first statement.
SECOND = (
    "--select",
    *("bronze_landing__files", "bronze_retail__transactions+,config.materialized:incremental"),
    *("bronze_retail__households+,config.materialized:incremental", "snap_retail__households"),
    *("dim_households", "dim_stores", "agg_department_pairs"),
    *("--exclude", "fct_promotions", "resource_type:unit_test", "resource_type:test"),
)


@pytest.fixture(scope="module")
def both(
    spark: None,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Lakehouse, Cluster]]:
    """Two deliveries, built on both engines after each.

    Spark builds the first in dbt's process; the second on a cluster, of which a worker is killed.
    """
    rng = random.Random(3)
    lakehouse = Lakehouse(tmp_path_factory.mktemp("both"))
    land(lakehouse, "2017-01-06")
    lakehouse.dbt(*BUILD)
    # What a driver leaves that is killed while it makes a table: Delta would refuse to make it.
    torn = lakehouse.home / "lake" / "spark" / "warehouse" / "ops.db" / "positions" / "_delta_log"
    torn.mkdir(parents=True)
    (torn / ".00000000000000000000.json.tmp").touch()
    lakehouse.dbt(*UNIT_TESTS, "--target", "spark_local")

    land(lakehouse, "2017-01-20")
    lakehouse.dbt("build", *SECOND)
    home = lakehouse.home / "lake" / "spark"
    torn, whole = (home / "warehouse" / "gold.db" / name / "_delta_log" for name in ("t", "w"))
    for log, file in ((torn, ".00000000000000000000.json.tmp"), (whole, f"{0:020}.json")):
        log.mkdir(parents=True)
        (log / file).touch()
    try:
        done = lakehouse.run("lakebed", "spark", "up", *ports(*free_ports(2)))
        cluster = running(home)
        assert cluster
        assert f"LAKEBED_SPARK_PORT={cluster.thrift}" in done.stdout
        assert "2 workers with 2 cores" in lakehouse.run("lakebed", "spark", "status").stdout
        assert (whole.exists(), torn.parent.exists()) == (True, False)
        assert set(cluster.processes) == {"master", "worker 1", "worker 2", "driver"}
        lakehouse.env.update(cluster.environment)
        build = started(lakehouse, "spark", *SECOND)
        time.sleep(rng.uniform(20, 40))
        assert build.poll() is None, "it ended before the worker was killed"
        os.kill(cluster.processes["worker 1"], signal.SIGKILL)
        assert build.wait() == 0
        assert [worker["state"] for worker in workers(cluster)].count("ALIVE") == 1
        yield lakehouse, cluster
    finally:
        down(home)


def land(lakehouse: Lakehouse, until: str) -> None:
    lakehouse.land("--until", until, *LAND)
    for entity in ("coupons", "promotions"):
        for file in (lakehouse.landing / "retail" / entity).iterdir():
            lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)[:LINES]
            # The same bytes each time: a file is known by its hash.
            file.write_bytes(gzip.compress(b"".join(lines), mtime=0))


def ports(thrift: int, connect: int) -> tuple[str, ...]:
    return ("--thrift-port", str(thrift), "--connect-port", str(connect))


def started(lakehouse: Lakehouse, target: str, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["dbt", "build", *options, "--target", target, "--vars", json.dumps({"as_of": AS_OF})],
        cwd=REPO,
        env=lakehouse.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def parity(lakehouse: Lakehouse, *tables: str) -> subprocess.CompletedProcess[str]:
    command = ("lakebed", "parity", *tables, "--keep", "--home", str(lakehouse.home / "lake"))
    return lakehouse.run(*command, check=False)


def test_every_table_is_the_same_on_both_engines(both: tuple[Lakehouse, Cluster]) -> None:
    lakehouse, _ = both
    tables, found = compare(lakehouse.home / "lake")
    assert found == []
    assert tables > 40
    (rows,) = lakehouse.query("select count(*) from quarantine.retail__transactions")[0]
    assert rows > 100


def test_every_batch_is_settled(both: tuple[Lakehouse, Cluster]) -> None:
    with connect_session(both[1].connect_url) as session:
        positions = session.sql("select * from ops.positions").collect()
    assert len(positions) > 10
    assert [row for row in positions if row["batch"] != row["previous_batch"]] == []


def test_a_contract_holds_for_later_writes(both: tuple[Lakehouse, Cluster]) -> None:
    with (
        connect_session(both[1].connect_url) as session,
        pytest.raises(Exception, match="CHECK constraint not_null"),
    ):
        session.sql("update silver.retail__transactions set basket_id = null").collect()


def test_a_row_that_differs_is_shown(both: tuple[Lakehouse, Cluster]) -> None:
    """It changes the lake."""
    lakehouse, cluster = both
    with connect_session(cluster.connect_url) as session:
        session.sql("update gold.dim_campaigns set households = 1 where campaign_id is null")
    done = parity(lakehouse, "gold.dim_campaigns", "gold.dim_stores")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "gold.dim_campaigns: 1 rows only on DuckDB; 1 rows only on Spark"
    assert lines[1].startswith("  DuckDB: (")
    assert lines[2].startswith("  Spark: (")
    assert lines[-1] == "2 tables compared, 1 equal, 1 different."
    done = parity(lakehouse, "gold.dim_stores", "gold.nothing")
    assert done.stderr == "Error: Neither engine has a table gold.nothing.\n"


def test_the_cluster_says_what_it_lost_and_goes_down(both: tuple[Lakehouse, Cluster]) -> None:
    """Last here."""
    lakehouse, cluster = both
    driver = ["ps", "-ww", "-o", "args=", "-p", str(cluster.processes["driver"])]
    assert "-Xmx3g" in subprocess.check_output(driver, text=True)
    again = lakehouse.run("lakebed", "spark", "up", *ports(1, 2), check=False)
    assert again.returncode == 1
    assert again.stderr.startswith("Error: There is a cluster on")
    said = lakehouse.run("lakebed", "spark", "status").stdout
    assert "1 workers" in said
    assert "ended" in said

    assert lakehouse.run("lakebed", "spark", "down").stdout == "The cluster is down.\n"
    assert not any(cluster.alive().values())
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", cluster.thrift)) != 0
    gone = lakehouse.run("lakebed", "spark", "status", check=False)
    assert gone.returncode == 1
    assert "`lakebed spark up` starts one" in gone.stderr
    assert lakehouse.run("lakebed", "spark", "down").stdout.startswith("No cluster on ")


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
@pytest.mark.usefixtures("spark")
def test_killed_at_random_soak(tmp_path: Path) -> None:
    """A day comes, and its build on Spark is killed up to ten times, wherever it is."""
    rng, kills, day = random.Random(9), 0, date(2017, 1, 3)
    lakehouse = Lakehouse(tmp_path)
    while kills < 100:
        lakehouse.land("--until", str(day), *LAND)
        lakehouse.dbt(*BUILD)
        for _ in range(10):
            build = started(lakehouse, "spark_local", *NO_TESTS)
            try:
                build.wait(rng.uniform(10, 120))
                break
            except subprocess.TimeoutExpired:
                os.killpg(build.pid, signal.SIGKILL)
                build.wait()
                kills += 1
        lakehouse.dbt("build", *NO_TESTS, "--target", "spark_local")
        compared = parity(lakehouse)  # in a process of its own: this one would keep the metastore
        assert compared.returncode == 0, (day, kills, compared.stdout)
        day += timedelta(days=1)
