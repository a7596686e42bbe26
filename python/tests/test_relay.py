"""The outbox to Kafka: real database and broker; each event once, each aggregate in its order."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from broker import Broker
from confluent_kafka import Consumer, TopicPartition
from lakebed.cdc.relay import POINTS
from postgres import Postgres
from streams import LAKEBED
from test_capture import Capturing

PROVES = ["pat-outbox-cdc"]

OUTBOX = """
create table app.outbox (
    id uuid primary key default gen_random_uuid(), aggregatetype text, aggregateid text, type text,
    payload jsonb
)
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path_factory.mktemp("source") / "pg")
    postgres.start()
    postgres.execute("create schema app", OUTBOX)
    yield postgres
    postgres.stop()


class Relaying:
    """A captured outbox, and its relay."""

    def __init__(self, home: Path, source: Postgres, broker: Broker, topic: str) -> None:
        self.source, self.broker, self.topic = source, broker, topic
        home.mkdir(exist_ok=True)
        self.name = f"shop_{random.randrange(10**9)}"
        tables = {"app.outbox": "shop__outbox"}
        self.capturing = Capturing(home, source, read="triggers", tables=tables)
        source.execute("truncate app.outbox", "drop schema if exists lakebed cascade")
        self.capturing.run("--install")
        self.lakehouse = self.capturing.lakehouse
        self.file = home / "relay.yml"
        self.configure()

    def configure(self, **settings: Any) -> None:
        content = {
            "name": self.name,
            "outbox": "shop__outbox",
            "kafka": {"bootstrap.servers": self.broker.servers, "transaction.timeout.ms": 10_000},
            "topic": self.topic,
            "batch": {"rows": 10},
            **settings,
        }
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")

    def run(self, *options: str, code: int = 0) -> str:
        done = self.lakehouse.run(
            *("lakebed", "relay", str(self.file), "--once", *options), check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def live(self, count: int) -> None:
        """Transactions of an application, one in four rolled back."""
        rng = random.Random(count)
        with psycopg.connect(self.source.url) as connection:
            for number in range(count):
                connection.execute(
                    "insert into app.outbox (aggregatetype, aggregateid, type, payload)"
                    " values ('order', %s, 'changed', %s)",
                    (f"ä-{rng.randrange(5)}", json.dumps({"number": number, "é": 1.50})),
                )
                if number % 4 == 3:
                    connection.rollback()
                else:
                    connection.commit()

    def received(self, topic: str | None = None) -> list[Any]:
        """What a reader of committed records gets."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.servers,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        topic = topic or self.topic
        parts = consumer.list_topics(topic).topics[topic].partitions
        consumer.assign([TopicPartition(topic, part, 0) for part in parts])
        found, ended = [], 0
        while ended < len(parts):
            for message in consumer.consume(1000, 0.5):
                if message.error() is None:
                    found.append(message)
                else:
                    ended += 1
        consumer.close()
        return found


def test_each_event_once_killed_at_each_step(
    source: Postgres, broker: Broker, tmp_path: Path
) -> None:
    relaying = Relaying(tmp_path / "lake", source, broker, broker.topic("orders", 3))
    relaying.live(30)
    relaying.capturing.run()
    for number, point in enumerate(POINTS):
        relaying.live(8)
        relaying.capturing.run()
        relaying.run("--fail-at", f"{point}:{1 + number % 2}", code=-signal.SIGKILL)
    relaying.run()
    assert "0 events sent." in relaying.run()

    wanted = source.query("select id::text, aggregateid, payload from app.outbox order by 1")
    found = relaying.received()
    ids = [dict(message.headers())["id"].decode() for message in found]
    assert sorted(ids) == [row[0] for row in wanted]
    assert len(ids) > 50
    told = {
        (key.decode(), json.loads(value)["number"])
        for key, value in ((message.key(), message.value()) for message in found)
    }
    assert told == {(row[1], row[2]["number"]) for row in wanted}
    assert {dict(message.headers())["eventType"] for message in found} == {b"changed"}

    # The order of each aggregate is that of the commits, which is the order in bronze.
    order = [
        json.loads(record)["after"]["id"]
        for (record,) in relaying.lakehouse.query(
            "select _record from bronze.shop__outbox order by _offset"
        )
    ]
    by_key: dict[bytes, list[int]] = defaultdict(list)
    for message, one in zip(found, ids, strict=True):
        by_key[message.key()].append(order.index(one))
    assert all(places == sorted(places) for places in by_key.values())
    assert len(by_key) == 5


def test_two_relays_of_one_name(source: Postgres, broker: Broker, tmp_path: Path) -> None:
    """The older one is fenced, and says so; nothing comes twice."""
    relaying = Relaying(tmp_path / "lake", source, broker, broker.topic("orders"))
    relaying.live(4)
    relaying.capturing.run()
    older = subprocess.Popen(
        [*LAKEBED, "relay", str(relaying.file)],
        env=relaying.lakehouse.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert older.stdout is not None
    assert "3 events sent" in older.stdout.readline()
    relaying.run()
    for number in range(5, 50):
        relaying.live(number)
        relaying.capturing.run()
        if older.poll() is not None:
            break
    output, _ = older.communicate(timeout=60)
    assert older.returncode == 1, output
    assert f"Another relay named {relaying.name} has begun" in output
    relaying.run()
    (count,) = source.query("select count(*) from app.outbox")[0]
    assert len(relaying.received()) == count


def test_topics_by_type_and_mistakes(source: Postgres, broker: Broker, tmp_path: Path) -> None:
    relaying = Relaying(tmp_path / "lake", source, broker, "unused")
    last = relaying.run(code=1).splitlines()[-1]
    assert "There is no" in last
    relaying.capturing.run()
    topic = broker.topic("order")
    prefix = topic.removeprefix("order")
    relaying.configure(topic="{aggregatetype}" + prefix)
    relaying.live(3)
    source.execute(
        "insert into app.outbox (aggregatetype, aggregateid, type) values ('order', '1', 'gone')"
    )
    source.execute("delete from app.outbox where type = 'gone'")  # it was said all the same
    relaying.capturing.run()
    assert "4 events sent." in relaying.run()
    values = [message.value() for message in relaying.received(topic)]
    assert values.count(None) == 1, values

    source.execute("insert into app.outbox (aggregatetype, type) values ('order', 'x')")
    relaying.capturing.run()
    assert "has no aggregateid: an outbox has the columns" in relaying.run(code=1)
    for settings, message in (
        ({"topic": "a b"}, "topic is a name such as"),
        ({"kafka": {}}, "kafka needs bootstrap.servers"),
        ({"outbox": None}, "outbox is a name"),
        ({"speed": 1}, "has no setting speed"),
    ):
        relaying.configure(**settings)
        text = relaying.run(code=1)
        assert message in text
        assert text.count("\n") == 1, text
