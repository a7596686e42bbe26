"""A cluster in the way, or that does not answer; the life of one is in test_parity.py."""

from __future__ import annotations

from pathlib import Path

import pytest
from lakebed.spark.cluster import Cluster, free_ports
from lakehouse import Lakehouse

pytestmark = pytest.mark.spark
PROVES = ["pat-medallion-lakehouse"]


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
