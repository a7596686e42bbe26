"""Too much for the lake: a stream reads no more than it may hold, and the broker keeps the rest;
a webhook sends away what it may not hold. Neither loses what it has taken, nor takes it twice."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import duckdb
import httpx
import pytest
from broker import Broker
from lakehouse import Lakehouse
from streams import Stream, checksums, peak_memory, send
from webhooks import post, serving

PROVES = ["pat-backpressure-strategies"]

#: Megabytes that a stream has at most, with the bounds that it has by default (docs/streaming.md).
STREAM_MEMORY = 800
#: Megabytes that a webhook has at most above those that it began with.
WEBHOOK_MEMORY = 150
TEXT = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=1_000_000))


def message(dice: random.Random, number: int, size: int) -> bytes:
    begin = dice.randrange(len(TEXT) - size)
    return json.dumps({"id": number, "text": TEXT[begin : begin + size]}).encode()


def records(dice: random.Random, megabytes: float) -> Iterator[tuple[str, bytes]]:
    """Most are small, most of the bytes are in a few huge ones; some are no JSON."""
    left, number = megabytes * 1e6, 0
    while left > 0:
        size = dice.choice([100, 2_000, 20_000] * 25 + [900_000])
        body = message(dice, number, size)
        body = body[:-1] if dice.random() < 0.01 else body
        yield str(number), body
        left, number = left - len(body), number + 1


@contextmanager
def held(lakehouse: Lakehouse) -> Iterator[None]:
    """The lake is kept from others, as soon as it is there and nobody has it."""
    while True:
        with suppress(duckdb.Error):
            connection = lakehouse.connect()
            break
        time.sleep(0.05)
    with connection:
        yield


def followed(process: subprocess.Popen[str]) -> int:
    """Its peak of memory in megabytes, when it has ended."""
    peak = 0
    while process.poll() is None:
        with suppress(OSError, ValueError, IndexError):  # it ends just now
            peak = max(peak, peak_memory(process.pid))
        time.sleep(0.1)
    return peak


def slow_lake(broker: Broker, home: Path, megabytes: int, holds: int, seconds: float) -> None:
    """A stream far behind, whose lake is away again and again while still more is sent."""
    dice = random.Random(3)
    topic = broker.topic("clicks", 3)
    stream = Stream(Lakehouse(home), broker, {topic: "web__clicks"})
    send(broker, topic, records(dice, megabytes / 2))
    with ThreadPoolExecutor(1) as pool:
        process = stream.start("--status-every", "600")
        peak = pool.submit(followed, process)
        try:
            for _ in range(holds):
                with held(stream.lakehouse):
                    send(broker, topic, records(dice, megabytes / 2 / holds))
                    time.sleep(seconds)
            process.send_signal(signal.SIGTERM)
            output = process.communicate(timeout=60)[0]
            assert process.returncode == 0, output
            process = stream.start("--once")  # what is left
            rest = followed(process)
        finally:
            process.kill()
            process.communicate()
        print(f"{megabytes} MB, {holds} holds, at most {peak.result()} and {rest} MB of memory")
    assert process.returncode == 0
    assert max(peak.result(), rest) < STREAM_MEMORY
    sent = checksums(broker, topic)
    broker.delete(topic)
    assert stream.checksums() == sent


def test_a_backlog_stays_with_the_broker(broker: Broker, tmp_path: Path) -> None:
    slow_lake(broker, tmp_path, 1000, 2, 1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_backlog_stays_with_the_broker_soak(broker: Broker, tmp_path: Path) -> None:
    """Ten minutes."""
    slow_lake(broker, tmp_path, 6000, 100, 5)


def overload(home: Path, seconds: float) -> None:
    """Ten times as many requests at once as may wait, and a lake that is away now and then."""
    waiting, lakehouse = 16, Lakehouse(home)
    settings = {"waiting": waiting, "waiting_bytes": 4_000_000, "patience": 1}
    with serving(lakehouse, **settings) as (server, client):
        assert server.process
        assert post(client, "first", '{"id": 0}').status_code == 200
        before = peak_memory(server.process.pid)
        done = threading.Event()

        def sender(number: int) -> tuple[int, dict[str, str], Counter[int]]:
            """Bytes offered; checksums of the messages that were acknowledged; all answers."""
            dice, offered, count = random.Random(number), 0, 0
            acknowledged: dict[str, str] = {}
            answers: Counter[int] = Counter()
            with httpx.Client(base_url=server.url, timeout=60) as mine:
                while not done.is_set():
                    body = message(dice, count, dice.choice([500, 20_000, 900_000]))
                    name, count = f"{number}-{count}", count + 1
                    offered += len(body)
                    try:
                        answer = post(mine, name, body.decode())
                    except httpx.TransportError:
                        answers[0] += 1
                        continue
                    answers[answer.status_code] += 1
                    if answer.status_code == 200:
                        acknowledged[name] = sha256(body).hexdigest()
                    elif answer.status_code != 408:  # a body that was too slow, on a busy machine
                        assert int(answer.headers["retry-after"]) > 0
            return offered, acknowledged, answers

        with ThreadPoolExecutor(10 * waiting) as pool:
            senders = [pool.submit(sender, number) for number in range(10 * waiting)]
            try:
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    time.sleep(3)
                    with held(lakehouse):
                        time.sleep(2)
            finally:
                done.set()
        found = [each.result() for each in senders]
        grown = peak_memory(server.process.pid) - before
    answers = sum((each[2] for each in found), Counter[int]())
    offered = sum(each[0] for each in found) // 1_000_000
    print(f"{offered} MB offered, {dict(answers)}, {before} MB of memory and {grown} more")
    assert grown < WEBHOOK_MEMORY
    assert {200, 429} <= set(answers) <= {0, 200, 408, 429, 503}
    rows = lakehouse.query("select _key, sha256(_record) from bronze.shop__orders")
    there = dict(rows)
    assert len(rows) == len(there)
    acknowledged = {name: mark for each in found for name, mark in each[1].items()}
    assert acknowledged.items() - there.items() == set()


def test_too_many_messages_are_sent_away(tmp_path: Path) -> None:
    overload(tmp_path, 12)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_too_many_messages_are_sent_away_soak(tmp_path: Path) -> None:
    """Ten minutes."""
    overload(tmp_path, 600)
