"""`lakebed spark up / status / down`: a real cluster, that loses a worker and is taken down."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from lakebed.spark import cluster as spark_cluster
from lakebed.spark.cluster import Cluster, free_ports
from lakebed.spark.settings import connect_session
from lakehouse import Lakehouse

pytestmark = pytest.mark.spark
PROVES = ["pat-medallion-lakehouse"]


def test_up_status_down(spark: None, tmp_path: Path) -> None:  # noqa: ARG001
    lakehouse = Lakehouse(tmp_path)
    home = tmp_path / "lake" / "spark"
    thrift, connect = free_ports(2)
    ports = ("--thrift-port", str(thrift), "--connect-port", str(connect))
    torn, whole = (home / "warehouse" / "gold.db" / name / "_delta_log" for name in ("t", "w"))
    for log, file in ((torn, ".00000000000000000000.json.tmp"), (whole, f"{0:020}.json")):
        log.mkdir(parents=True)
        (log / file).touch()
    try:
        done = lakehouse.run("lakebed", "spark", "up", *ports)
        assert f"LAKEBED_SPARK_PORT={thrift}" in done.stdout
        assert "2 workers with 2 cores" in lakehouse.run("lakebed", "spark", "status").stdout
        assert (whole.exists(), torn.parent.exists()) == (True, False)
        running = spark_cluster.running(home)
        assert running
        assert set(running.processes) == {"master", "worker 1", "worker 2", "driver"}
        driver = ["ps", "-ww", "-o", "args=", "-p", str(running.processes["driver"])]
        assert "-Xmx3g" in subprocess.check_output(driver, text=True)

        again = lakehouse.run("lakebed", "spark", "up", *ports, check=False)
        assert again.returncode == 1
        assert again.stderr.startswith("Error: There is a cluster on")

        os.kill(running.processes["worker 1"], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while "1 workers" not in (said := lakehouse.run("lakebed", "spark", "status").stdout):
            assert time.monotonic() < deadline, said
        assert "ended" in said
        with connect_session(running.connect_url) as session:
            rows = session.sql(
                "select id % 3 as k, count(*) as n from range(9) group by 1"
            ).collect()
        assert sorted(map(tuple, rows)) == [(0, 3), (1, 3), (2, 3)]
    finally:
        done = lakehouse.run("lakebed", "spark", "down")
    assert done.stdout == "The cluster is down.\n"
    assert not any(running.alive().values())
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", thrift)) != 0
    gone = lakehouse.run("lakebed", "spark", "status", check=False)
    assert gone.returncode == 1
    assert "`lakebed spark up` starts one" in gone.stderr
    assert lakehouse.run("lakebed", "spark", "down").stdout.startswith("No cluster on ")


def test_a_port_that_is_taken(cluster: Cluster, tmp_path: Path) -> None:
    done = Lakehouse(tmp_path).run(
        *("lakebed", "spark", "up", "--thrift-port", str(cluster.thrift)), check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: Port {cluster.thrift} is taken: choose another one with --thrift-port.\n"
    )


def test_a_lake_that_a_cluster_holds(cluster: Cluster, tmp_path: Path) -> None:
    """dbt's own session cannot open the metastore of a running driver, and says so."""
    lakehouse = Lakehouse(tmp_path)
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "spark").symlink_to(cluster.home)
    done = lakehouse.run(
        *("dbt", "run", "--target", "spark_local", "--select", "dim_dates"), check=False
    )
    assert done.returncode != 0
    assert "A cluster holds the lake" in done.stdout


def test_a_cluster_that_does_not_answer(tmp_path: Path) -> None:
    lakehouse = Lakehouse(tmp_path, {"LAKEBED_SPARK_PORT": str(free_ports(1)[0])})
    done = lakehouse.run("dbt", "run", "--target", "spark", "--select", "dim_dates", check=False)
    assert done.returncode != 0
    assert "Could not connect" in done.stdout
