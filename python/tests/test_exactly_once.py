"""Exactly once, from the source to gold: while events of the web shop are sent, taken in and built,
the producer, the sidecar, the broker and dbt are killed, and what comes out is the truth.

A producer that was killed begins anew, so what it had sent is sent again: the topic has these
events many times, at offsets of their own. Bronze and the DLQ have each record of the topic once;
silver and gold have each event once.
"""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path

import pytest
from broker import Broker
from lakebed.ingest.faults import POINTS
from lakehouse import Lakehouse
from streams import LAKEBED, Stream, checksums

pytestmark = pytest.mark.timeout(900)
PROVES = ["pat-exactly-once"]

FAULTS = (
    *("--disorder", "0.3", "--within", "600", "--late", "0.02"),
    *("--duplicates", "0.03", "--malformed", "0.01"),
)
#: How a session of the sidecar ends: killed at a step of its own, at any moment, or with its dbt.
ENDS = ("step", "sidecar", "build")
BESIDE = ("producer", "broker")


class Shop:
    """A day of the web shop, sent again and again, followed up to gold. `kills` counts them."""

    def __init__(self, home: Path, broker: Broker, seed: int) -> None:
        self.broker, self.dice, self.kills = broker, random.Random(seed), Counter[str]()
        self.topic = broker.topic("clicks", 3)
        self.lakehouse = Lakehouse(home, {"LAKEBED_DOMAINS": "web"})
        self.stream = Stream(
            self.lakehouse,
            broker,
            {self.topic: "web__clicks"},
            settings={"batch": {"rows": 300, "age": 0.2}},
        )
        self.truth = home / "truth.csv"
        to = ("--to", f"kafka://{broker.servers}/{self.topic}", "--truth", str(self.truth))
        self.sample = ("sample", "web", *to, *FAULTS)
        self._producer: subprocess.Popen[bytes] | None = None
        self._done = threading.Event()

    @contextmanager
    def open(self) -> Iterator[None]:
        """Somebody always sends: the day in half a minute, and again from its beginning."""

        def produce() -> None:
            while not self._done.wait(0.1):
                self.truth.unlink(missing_ok=True)
                self._producer = subprocess.Popen(
                    [*LAKEBED, *self.sample, "--speed", "2000"],
                    env=self.lakehouse.environment(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                self._producer.wait()

        thread = threading.Thread(target=produce)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            if self._producer:
                self._producer.kill()
            thread.join()

    def session(self, end: str, beside: tuple[str, ...]) -> None:
        """The sidecar and dbt live until they are killed as `end` says; others die before."""
        while not self.kills_one(end, beside):
            pass  # it had ended before, of another death

    def kills_one(self, end: str, beside: tuple[str, ...]) -> bool:
        point = f"{self.dice.choice(POINTS)}:{self.dice.randint(1, 4)}"
        step = ("--fail-at", point) if end == "step" else ()
        sidecar = self.stream.start("--build", "run", "--build-every", "0.5", *step)
        try:
            for kind in beside:
                time.sleep(self.dice.uniform(0, 8))
                self.kill_broker() if kind == "broker" else self.kill_producer()
            builder = self.builder(sidecar) if end == "build" else None
            time.sleep(self.dice.uniform(0, 2))
            if builder:
                os.kill(builder, signal.SIGKILL)
                time.sleep(self.dice.uniform(2, 10))  # the sidecar goes on with another one
                sidecar.terminate()
            elif end == "sidecar":
                sidecar.kill()
            output = sidecar.communicate(timeout=300)[0]
        finally:
            sidecar.kill()
        killed = sidecar.returncode == -signal.SIGKILL
        if end == "build":
            killed = "dbt's process has died" in output
        assert "Traceback" not in output
        assert killed or "No Kafka broker answers" in output, output
        self.kills[end] += killed
        return killed

    def builder(self, sidecar: subprocess.Popen[str]) -> int | None:
        """The sidecar's dbt, as soon as it has the lake open. None when the sidecar has ended."""
        catalogue = str(self.lakehouse.home / "lake" / "catalog.ducklake")
        children = Path(f"/proc/{sidecar.pid}/task/{sidecar.pid}/children")
        while sidecar.poll() is None:
            with suppress(OSError):  # they come and go
                for child in map(int, children.read_text().split()):
                    for each in Path(f"/proc/{child}/fd").iterdir():
                        if str(each.readlink()) == catalogue:
                            return child
            time.sleep(0.02)
        return None

    def kill_producer(self) -> None:
        """In the middle: it has written some of the truth, and not all."""
        while True:
            with suppress(FileNotFoundError):
                producer = self._producer
                if producer and self.truth.stat().st_size:
                    producer.kill()
                    if producer.wait() == -signal.SIGKILL:
                        break
            time.sleep(0.1)
        self.kills["producer"] += 1

    def kill_broker(self) -> None:
        self.broker.kill()
        time.sleep(self.dice.uniform(0, 2))
        self.broker.start()
        self.kills["broker"] += 1

    def settle(self) -> None:
        """A whole day is sent at last, and all there is becomes gold."""
        self.lakehouse.run("lakebed", *self.sample)
        self.stream.run("--build", "run")

    def check(self) -> None:
        sent = checksums(self.broker, self.topic)
        assert self.stream.checksums() == sent

        truth = list(csv.DictReader(self.truth.read_text("utf-8").splitlines()))
        assert len(sent) > len(truth)  # the killed ones had sent something, too
        good = [row for row in truth if row["outcome"] == "silver"]
        events = self.lakehouse.query("select event_id from silver.web__clicks order by 1")
        assert events == sorted((row["event_id"],) for row in good)
        paid = [Decimal(row["amount"]) for row in good if row["event_type"] == "purchased"]
        assert self.lakehouse.query(
            "select sum(revenue), sum(purchases), sum(events) from gold.agg_web_minutes"
        ) == [(sum(paid), len(paid), len(good))]


def killed(home: Path, broker: Broker, seed: int, sessions: int, beside: int) -> Counter[str]:
    """All kinds of deaths, in an order and at moments of the seed; kills by kind."""
    shop = Shop(home, broker, seed)
    with shop.open():
        for number in range(sessions):
            others = tuple(BESIDE[(number + each) % 2] for each in range(beside))
            shop.session(ENDS[number % 3], others)
    shop.settle()
    shop.check()
    return shop.kills


def test_from_the_source_to_gold(broker: Broker, tmp_path: Path) -> None:
    kills = killed(tmp_path, broker, 5, 3, 1)
    print(kills)
    assert set(kills) == {*ENDS, *BESIDE}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(6))
def test_from_the_source_to_gold_soak(broker: Broker, tmp_path: Path, seed: int) -> None:
    """More than 300 kills in all."""
    kills = killed(tmp_path, broker, seed, 18, 2)
    print(kills)
    assert kills.total() >= 54
