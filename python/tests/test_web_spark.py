"""Events of the web shop in a lake on Spark, from the broker to gold: the rows of DuckDB."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
from broker import Broker
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session
from lakehouse import Lakehouse
from streams import Stream, send
from test_web import FAULTS, OF_A_BATCH, SELECT

pytestmark = [pytest.mark.spark, pytest.mark.timeout(1800)]
PROVES = ["pat-batch-microbatch-continuum", "pat-late-arrival-handling", "pat-watermarking"]

DAY = ("--from", "2017-01-01", "--until", "2017-01-01")
#: The tables to compare, and powers of ten that their rows exceed.
TABLES = {
    "silver.web__clicks": 3,
    "quarantine.web__clicks": 1,
    "gold.agg_web_minutes": 2,
    "gold.fct_web_sessions": 2,
    "ops.watermarks": 0,
}


def test_the_rows_of_duckdb(tmp_path: Path, broker: Broker, own_cluster: Cluster) -> None:
    """In two deliveries, of which the second has late events and repeats of the first."""
    topic = broker.topic("clicks", 3)
    domain = {"LAKEBED_DOMAINS": "web"}
    lakes = {
        "local": Lakehouse(tmp_path / "duckdb", domain),
        "spark": Lakehouse(
            tmp_path / "spark", {**domain, **own_cluster.environment, "LAKEBED_TARGET": "spark"}
        ),
    }
    lines, truth = tmp_path / "events.jsonl", tmp_path / "truth.csv"
    for lake in lakes.values():
        lake.home.mkdir()
    lakes["local"].run(
        *("lakebed", "sample", "web", "--to", str(lines), "--truth", str(truth)), *DAY, *FAULTS
    )
    keys = [row["session_id"] for row in csv.DictReader(truth.read_text("utf-8").splitlines())]
    messages = list(zip(keys, lines.read_bytes().splitlines(), strict=True))
    half = len(messages) // 2
    build = ("build", "--exclude-resource-type", "unit_test")
    for command, part in ((("run",), messages[:half]), (build, messages[half:])):
        send(broker, topic, part)
        for target, lake in lakes.items():
            Stream(lake, broker, {topic: "web__clicks"}, kafka={"group.id": target}).run()
            lake.dbt(*command, *SELECT, "--target", target)

    def rows(session: Any, table: str, columns: list[str]) -> list[str]:
        found = session.sql(f"select {', '.join(columns)} from {table}").collect()
        return sorted(repr(tuple(row)) for row in found)

    with connect_session(own_cluster.connect_url) as session:
        for table, fewest in TABLES.items():
            columns = [c for c in session.table(table).columns if c not in OF_A_BATCH]
            expected = lakes["local"].query(f"select {', '.join(columns)} from {table}")
            assert rows(session, table, columns) == sorted(map(repr, expected)), table
            assert len(expected) > 10**fewest
