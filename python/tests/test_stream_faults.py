"""Exactly once, whatever dies: kill -9 of the sidecar between every two steps, two sidecars on one
stream, a broker that is killed, a rebalance, a lake that is held by somebody else."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker import Broker
from confluent_kafka import Consumer
from lakebed.ingest.faults import POINTS
from lakehouse import Lakehouse, TeamLakehouse
from streams import Stream, everything, send

PROVES = [
    "pat-exactly-once-transactional-sinks",
    "pat-streaming-ingest",
    "pat-retryable",
]

SMALL = {"batch": {"rows": 25, "age": 0.2}}


def messages(rng: random.Random, count: int) -> Iterator[tuple[str, bytes | None]]:
    """Good ones, tombstones, exact duplicates and poison."""
    for number in range(count):
        kind = rng.random()
        body = json.dumps({"id": number if kind > 0.2 else number // 2}).encode()
        yield str(number), body if kind > 0.1 else None if kind > 0.05 else b"{poison" + body


def check(stream: Stream, broker: Broker) -> None:
    """bronze + DLQ hold every record of the topics once, with its bytes."""
    expected = sorted(row for topic in stream.topics for row in everything(broker, topic))
    assert stream.sent() == expected
    assert expected


def kill_and_resume(broker: Broker, home: Path, seed: int, points: list[str]) -> None:
    rng = random.Random(seed)
    clicks, stock = broker.topic("clicks", 3), broker.topic("stock")
    stream = Stream(
        Lakehouse(home),
        broker,
        {clicks: "web__clicks", stock: "web__stock"},
        settings=SMALL,
    )
    for point in points:
        send(broker, clicks, messages(rng, 90))
        send(broker, stock, messages(rng, 20))
        stream.run("--fail-at", point, code=-signal.SIGKILL)
    output = stream.run()
    check(stream, broker)
    assert "fenced" not in output
    assert stream.lakehouse.query("select count(*) > 0 from ops.dlq") == [(True,)]
    # Batches count up, in the order of the commits.
    assert stream.lakehouse.query(
        "select count(distinct _batch_id) > 5 from bronze.web__clicks"
    ) == [(True,)]


def test_killed_between_every_two_steps(broker: Broker, tmp_path: Path) -> None:
    kill_and_resume(broker, tmp_path, 1, [f"{point}:2" for point in POINTS])


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(6))
def test_killed_between_every_two_steps_soak(broker: Broker, tmp_path: Path, seed: int) -> None:
    """300 kills in all."""
    rng = random.Random(seed)
    points = [f"{rng.choice(POINTS)}:{rng.randint(1, 3)}" for _ in range(50)]
    kill_and_resume(broker, tmp_path, seed, points)


def lines(process: subprocess.Popen[str], text: str) -> str:
    """What it says up to the first line that has `text`."""
    assert process.stdout
    said = ""
    while text not in said:
        line = process.stdout.readline()
        assert line, f"it has ended, and never said {text!r}: {said}"
        said += line
    return said


def two_sidecars(
    broker: Broker, lakehouse: Lakehouse, groups: tuple[str, str], seconds: float, kills: int
) -> str:
    """Two sidecars and a producer at once, sidecars killed now and then; then what is left.

    Their batches differ in size, so that they end at different records: two that wrote equal
    batches would not show a sink that lets both through.
    """
    rng = random.Random(seconds)
    clicks = broker.topic("clicks", 4)
    batches = ({"rows": 500, "age": 0.5}, {"rows": 35, "age": 0.1})
    streams = [
        Stream(
            lakehouse,
            broker,
            {clicks: "web__clicks"},
            kafka={"group.id": group, "client.id": f"{number}"},
            settings={"batch": batches[number]},
        )
        for number, group in enumerate(groups)
    ]
    done = threading.Event()

    def produce() -> None:
        while not done.is_set():
            send(broker, clicks, messages(rng, 60))
            done.wait(0.1)

    producer = threading.Thread(target=produce)
    running: list[subprocess.Popen[str]] = []
    said = ""
    try:
        for stream in streams:
            running.append(stream.start("--status-every", "1"))
        for process in running:
            lines(process, "Reading")
        producer.start()
        for kill in range(kills + 1):
            time.sleep(seconds / (kills + 1))
            if kill < kills:
                running[kill % 2].kill()
                said += running[kill % 2].communicate()[0]
                running[kill % 2] = streams[kill % 2].start("--status-every", "1")
    finally:
        done.set()
        if producer.ident:
            producer.join()
        for process in running:
            process.send_signal(signal.SIGTERM)
        for process in running:
            output = process.communicate(timeout=60)[0]
            said += output
            # -15: it was told before it had started.
            assert process.returncode in (0, -signal.SIGTERM), output
    said += streams[0].run()
    check(streams[0], broker)
    return said


FENCED = "Another process has written these records"


def test_two_sidecars_of_two_groups(broker: Broker, tmp_path: Path) -> None:
    """Both read everything, and each writes what the other has not."""
    assert FENCED in two_sidecars(broker, Lakehouse(tmp_path), ("a", "b"), 2, 0)


def test_the_slower_of_two_writers_is_fenced(broker: Broker, tmp_path: Path) -> None:
    """One has read records and is put to sleep; another writes them; the first wakes up."""
    clicks = broker.topic("clicks")
    lakehouse, topics = Lakehouse(tmp_path), {clicks: "web__clicks"}
    # Still a member of its group when it wakes up.
    kafka = {"group.id": "slow", "session.timeout.ms": 30_000}
    slow = Stream(lakehouse, broker, topics, kafka=kafka, settings={"batch": {"age": 3}})
    # It ends in the middle of what the slow one has read: else that could have read the same.
    settings = {"batch": {"rows": 90}}
    quick = Stream(lakehouse, broker, topics, kafka={"group.id": "quick"}, settings=settings)
    process = slow.start("--status-every", "600")
    lines(process, "Reading 1 partitions")
    send(broker, clicks, messages(random.Random(1), 100))
    time.sleep(1)
    process.send_signal(signal.SIGSTOP)
    quick.run("--fail-at", "acknowledged", code=-signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    lines(process, FENCED)
    send(broker, clicks, messages(random.Random(2), 100))
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    check(slow, broker)


def test_two_sidecars_of_one_group_and_a_kill(broker: Broker, tmp_path: Path) -> None:
    """Partitions are shared, and move when one dies and when it comes back."""
    two_sidecars(broker, Lakehouse(tmp_path), ("a", "a"), 4, 1)


@pytest.mark.team
@pytest.mark.parametrize("groups", [("a", "b"), ("a", "a")])
def test_two_sidecars_on_postgres(
    broker: Broker, team: TeamLakehouse, groups: tuple[str, str]
) -> None:
    two_sidecars(broker, team, groups, 2, 0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("groups", [("a", "b"), ("a", "a")])
def test_two_sidecars_soak(broker: Broker, tmp_path: Path, groups: tuple[str, str]) -> None:
    two_sidecars(broker, Lakehouse(tmp_path), groups, 240, 30)


@pytest.mark.soak
@pytest.mark.team
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("groups", [("a", "b"), ("a", "a")])
def test_two_sidecars_on_postgres_soak(
    broker: Broker, team: TeamLakehouse, groups: tuple[str, str]
) -> None:
    two_sidecars(broker, team, groups, 240, 30)


def test_broker_killed_and_lake_held(broker: Broker, tmp_path: Path) -> None:
    """The sidecar waits for both, says so, goes on with them, and ends on SIGTERM."""
    clicks = broker.topic("clicks", 2)
    stream = Stream(Lakehouse(tmp_path), broker, {clicks: "web__clicks"}, settings=SMALL)
    send(broker, clicks, messages(random.Random(1), 100))
    stream.run()
    holder = stream.lakehouse.connect()  # reading holds the file, too
    process = stream.start("--status-every", "0.2")
    try:
        assert "is in use by process" in lines(process, "Waiting")
        send(broker, clicks, [("k", b"{}")] * 100)
        holder.close()
        lines(process, "Reading 2 partitions")
        broker.kill()
        lines(process, "no Kafka broker answers")
        broker.start()
        send(broker, clicks, [("k", b"{}")] * 200)
        lines(process, " 300 rows")  # of its status
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    check(stream, broker)


def test_broker_killed_before_it_is_known_where_to_read(broker: Broker, tmp_path: Path) -> None:
    """After a rebalance the lake is asked for the positions; when it answers the broker is gone."""
    clicks = broker.topic("clicks", 2)
    stream = Stream(Lakehouse(tmp_path), broker, {clicks: "web__clicks"}, kafka={"group.id": "a"})
    process = stream.start("--status-every", "0.2")
    other = Consumer({"bootstrap.servers": broker.servers, "group.id": "a", "log_level": 0})
    try:
        lines(process, "Reading 2 partitions")
        holder = stream.lakehouse.connect()
        other.subscribe([clicks])
        other.poll(0.1)
        lines(process, "Waiting")
        broker.kill()
        holder.close()
        lines(process, "no Kafka broker answers")
        broker.start()
        other.close()
        send(broker, clicks, messages(random.Random(1), 100))
        lines(process, "Reading 2 partitions")
    finally:
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    stream.run()
    check(stream, broker)
