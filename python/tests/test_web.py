"""Events of the web shop, from a real broker to gold: one batch, several builds, continuously."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from broker import Broker
from confluent_kafka import Consumer
from lakehouse import REPO, Lakehouse
from streams import LAKEBED, QUICK, Stream, send

pytestmark = pytest.mark.timeout(900)
PROVES = [
    "pat-batch-microbatch-continuum",
    "pat-late-arrival-handling",
    "pat-watermarking",
    "pat-exactly-once",
]

SELECT = ("--selector", "web")
DAYS = ("--from", "2017-01-01", "--until", "2017-01-02")
#: The bound of the models is ten minutes.
FAULTS = (
    *("--disorder", "0.3", "--within", "600", "--late", "0.02", "--late-by", "3600"),
    *("--duplicates", "0.03", "--again-within", "3000", "--malformed", "0.01"),
)
DELAY = timedelta(minutes=10)
#: What tells one way of loading from another, and nothing else may.
OF_A_BATCH = ("_batch_id", "ingested_at")


@dataclass
class Shop:
    """The same topic, followed in three ways, and what was sent to it."""

    lakes: dict[str, Lakehouse]
    truth: list[dict[str, str]]
    #: Of the lake `pieces`: snapshots before and after the second half's build, and the last batch
    #: that was built before.
    day: tuple[int, int, int]

    @property
    def good(self) -> list[dict[str, str]]:
        return [row for row in self.truth if row["outcome"] == "silver"]


def started(lakehouse: Lakehouse, *command: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=REPO,
        env=lakehouse.environment() | {"DBT_PROJECT_DIR": str(REPO)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def killed(process: subprocess.Popen[str], after: float) -> bool:
    """Whether it was still running when it was killed, with all its children."""
    try:
        process.wait(after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def snapshot(lakehouse: Lakehouse) -> int:
    return int(lakehouse.query("select max(snapshot_id) from lakebed.snapshots()")[0][0])


def marks(lakehouse: Lakehouse) -> dict[tuple[str, str], tuple[Any, ...]]:
    try:
        rows = lakehouse.query(
            "select model, source_partition, watermark, late_rows, seen_until from ops.watermarks"
        )
    except duckdb.CatalogException:  # killed before the first build made it
        return {}
    return {(model, partition): tuple(rest) for model, partition, *rest in rows}


def held_to_the_rows(lakehouse: Lakehouse, before: dict[Any, Any]) -> dict[Any, Any]:
    """The watermarks are those of silver's rows, wherever a build was killed; none went back."""
    now = marks(lakehouse)
    for key, mark in before.items():
        assert now[key][0] >= mark[0], key
    try:
        rows = lakehouse.query(
            "select concat(_topic, '/', _topic_partition), max(event_time) from silver.web__clicks"
            " group by 1"
        )
    except duckdb.CatalogException:
        rows = []
    mine = {key[1]: mark for key, mark in now.items() if key[0] == "silver_web__clicks"}
    newest = mine.pop("*", (None,))[0]
    assert {name: mark[2] for name, mark in mine.items()} == dict(rows)
    assert all(mark[0] == mark[2] - DELAY for mark in mine.values())
    assert newest == min((mark[0] for mark in mine.values()), default=None)
    return now


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("web")
    topic = broker.topic("clicks", 3)
    lakes = {
        way: Lakehouse(home / way, {"LAKEBED_DOMAINS": "web"})
        for way in ("batch", "pieces", "continuous")
    }
    for lake in lakes.values():
        lake.home.mkdir()
    streams = {
        way: Stream(
            *(lake, broker, {topic: "web__clicks"}),
            kafka={"group.id": way},
            settings={"batch": {"rows": 2000}} if way == "continuous" else {},
        )
        for way, lake in lakes.items()
    }
    follow = (*LAKEBED, "stream", str(streams["continuous"].file), "--build", "run")
    follow = (*follow, "--build-every", "1")
    lines, file = home / "events.jsonl", home / "truth.csv"
    lakes["batch"].run(
        *("lakebed", "sample", "web", "--to", str(lines), "--truth", str(file)), *DAYS, *FAULTS
    )
    truth = list(csv.DictReader(file.read_text("utf-8").splitlines()))
    keys = [row["session_id"] for row in truth]
    messages = list(zip(keys, lines.read_bytes().splitlines(), strict=True))
    half = len(messages) // 2
    dice = random.Random(3)
    processes = [started(lakes["continuous"], *follow)]
    try:
        before: dict[Any, Any] = {}
        batch = 0
        day = (0, 0, 0)
        for number, part in enumerate((messages[:half], messages[half:])):
            send(broker, topic, part)
            streams["pieces"].run()
            pieces = lakes["pieces"]
            first = snapshot(pieces)
            if number == 1:
                killed(processes[0], dice.uniform(0, 2))
                # A build that is killed in the middle of a model, and run again.
                processes.append(started(pieces, "dbt", "run", *SELECT))
                output = processes[1].stdout
                assert output
                place = f"{dice.randint(1, 4)} of 4 START"
                assert any(place in line for line in output)
                assert killed(processes[1], dice.uniform(0, 0.3))
                before = held_to_the_rows(pieces, before)
            pieces.dbt("run", *SELECT)
            day = (first, snapshot(pieces), batch)
            ((batch,),) = pieces.query("select max(_batch_id) from silver.web__clicks")
            before = held_to_the_rows(pieces, before)
        streams["batch"].run()
        lakes["batch"].dbt("build", *SELECT)
        streams["continuous"].run("--build", "run", "--build-every", "20")
        yield Shop(lakes, truth, day)
    finally:
        for process in processes:
            killed(process, 0)


def test_three_ways_end_the_same(shop: Shop) -> None:
    found = {way: lake.hashes(OF_A_BATCH) for way, lake in shop.lakes.items()}
    assert len(found["batch"]) == 5
    assert min(rows for rows, _ in found["batch"].values()) > 20
    assert found["batch"] == found["pieces"] == found["continuous"]
    assert marks(shop.lakes["batch"]) == marks(shop.lakes["pieces"])
    assert marks(shop.lakes["batch"]) == marks(shop.lakes["continuous"])
    # They were not loaded alike.
    batches = {
        way: lake.query("select count(distinct _batch_id) from bronze.web__clicks")[0][0]
        for way, lake in shop.lakes.items()
    }
    assert batches["batch"] <= batches["pieces"] < batches["continuous"], batches


def test_the_truth_comes_out(shop: Shop) -> None:
    lake = shop.lakes["batch"]
    revenue = sum(Decimal(row["amount"]) for row in shop.good if row["event_type"] == "purchased")
    assert lake.query("select sum(revenue) from gold.agg_web_minutes") == [(revenue,)]
    assert lake.query("select sum(revenue), sum(events) from gold.fct_web_sessions") == [
        (revenue, len(shop.good))
    ]
    minutes: dict[tuple[datetime, str], list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal()])
    for row in shop.good:
        moment = datetime.fromisoformat(row["event_time"][:16])
        minute = minutes[moment, row["page_type"]]
        minute[0] += 1
        minute[1] += row["event_type"] == "session_started"
        if row["event_type"] == "purchased":
            minute[2] += 1
            minute[3] += Decimal(row["amount"])
    found = lake.query(
        "select minute_start_at, page_type, events, sessions, purchases, revenue"
        " from gold.agg_web_minutes"
    )
    assert sorted(found) == sorted((*key, *values) for key, values in minutes.items())
    # And everything is somewhere.
    outcomes = Counter(row["outcome"] for row in shop.truth)
    # A purchase whose amount is no number has none, too.
    refused = lake.query(
        "select split_part(broken_rules, ',', 1), count(*) from quarantine.web__clicks group by 1"
    )
    assert dict(refused) == Counter(
        row["reason"] for row in shop.truth if row["outcome"] == "quarantine"
    )
    assert lake.query("select count(*) from ops.dlq") == [(outcomes["dlq"],)]
    assert lake.query("select count(*) from silver.web__clicks") == [(outcomes["silver"],)]
    assert lake.query("select count(*) from bronze.web__clicks") == [
        (outcomes["silver"] + outcomes["quarantine"] + outcomes["duplicate"],)
    ]
    assert min(outcomes.values()) > 20


def test_disorder_within_the_bound_is_not_late(shop: Shop) -> None:
    lake = shop.lakes["batch"]
    fault = {row["event_id"]: row["fault"] for row in shop.good}
    rows = lake.query("select event_id, event_time, _seen_until from silver.web__clicks")
    late = {event for event, at, seen in rows if seen is not None and at < seen - DELAY}
    disorder = [row for row in rows if fault[row[0]] == "disorder" and row[2] and row[1] < row[2]]
    assert len(disorder) > 1000
    assert {fault[event] for event in late} == {"late"}
    held_up = sum(kind == "late" for kind in fault.values())
    # At night nobody came before those.
    assert held_up * 0.8 < len(late) <= held_up
    counted = {key: mark[1] for key, mark in marks(lake).items() if key[1] == "*"}
    assert set(counted.values()) == {len(late)}
    # Its memory: a row for each model and partition, and one for all.
    assert len(marks(lake)) == len(counted) * 4


def test_a_build_writes_the_minutes_of_new_events_only(shop: Shop) -> None:
    lake = shop.lakes["pieces"]
    before, after, batch = shop.day
    table = "'lakebed', 'gold', 'agg_web_minutes'"
    written = lake.query(
        "select distinct minute_start_at from"
        f" ducklake_table_insertions({table}, {before + 1}, {after})"
    )
    new = lake.query(
        "select distinct date_trunc('minute', event_time) from silver.web__clicks"
        f" where _batch_id > {batch}"
    )
    everything = lake.query("select distinct minute_start_at from gold.agg_web_minutes")
    assert set(written) == set(new)
    assert len(written) < len(everything) * 0.8


def test_the_sample_goes_to_a_topic(broker: Broker, tmp_path: Path) -> None:
    topic = broker.topic("clicks")
    stream = Stream(Lakehouse(tmp_path), broker, {topic: "web__clicks"})
    lakehouse, file = stream.lakehouse, tmp_path / "events.jsonl"
    for to in (str(file), str(stream.file)):
        lakehouse.run("lakebed", "sample", "web", "--to", to, "--malformed", "0.02")
    settings = {"bootstrap.servers": broker.servers, "group.id": "check", **QUICK}
    consumer = Consumer({**settings, "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    lines = file.read_bytes().splitlines()
    found = [message for _ in range(20) for message in consumer.consume(len(lines), 0.5)]
    consumer.close()
    assert [message.value() for message in found] == lines
    assert all(message.key() in message.value() for message in found[:50])
    done = lakehouse.run(
        *("lakebed", "sample", "web", "--to", f"kafka://{broker.servers}/nowhere"), check=False
    )
    assert done.returncode == 1
    assert "make the topic" in done.stderr
    assert len(done.stderr.splitlines()) == 1
