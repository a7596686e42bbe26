"""A lakehouse fed by `lakebed stream`: its file, its process, its producer and what came of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import yaml
from broker import Broker
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from lakehouse import Lakehouse

#: A killed member of the group is gone after a second, not after 45; a broker that is back is
#: seen at once.
QUICK = {
    "session.timeout.ms": 1000,
    "heartbeat.interval.ms": 200,
    "fetch.wait.max.ms": 50,
    "reconnect.backoff.max.ms": 200,
}


LAKEBED = (sys.executable, "-c", "from lakebed.cli import main; main()")
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Stream:
    """A stream `name` of `broker` into `lakehouse`; `topics` as in the YAML file."""

    lakehouse: Lakehouse
    broker: Broker
    topics: Mapping[str, Any]
    name: str = "web"
    kafka: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        # One for each set of settings: a process reads its file some time after its start.
        kafka = self.kafka
        name = f"{self.name}-{kafka.get('group.id', '')}-{kafka.get('client.id', '')}.yml"
        file = self.lakehouse.home / name
        content = {
            "name": self.name,
            "kafka": {"bootstrap.servers": self.broker.servers, **QUICK, **self.kafka},
            "topics": dict(self.topics),
            **self.settings,
        }
        file.write_text(yaml.safe_dump(content), encoding="utf-8")
        return file

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*LAKEBED, "stream", *options, str(self.file)],
            env=self.lakehouse.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def sent(self) -> list[tuple[str, int, int]]:
        """Topic, partition, offset of all that is in bronze and in the DLQ, in order."""
        tables = {t if isinstance(t, str) else t["table"] for t in self.topics.values()}
        parts = [
            f"select _topic, _topic_partition, _offset from bronze.{table}" for table in tables
        ]
        parts.append("select topic, partition, position from ops.dlq")
        return self.lakehouse.query(f"select * from ({' union all '.join(parts)}) order by all")

    def checksums(self) -> list[tuple[str, int, int, str]]:
        """The same with a checksum of each key and value, of the bytes as they came."""
        tables = {t if isinstance(t, str) else t["table"] for t in self.topics.values()}
        parts = [
            f"select _topic, _topic_partition, _offset, _key, _record from bronze.{table}"
            for table in tables
        ]
        parts.append("select topic, partition, position, record_key, record_value from ops.dlq")
        union = " union all ".join(
            f"select #1, #2, #3, sha256(coalesce(#4, '') || coalesce(#5, '')) from ({part})"
            for part in parts
        )
        return self.lakehouse.query(f"select * from ({union}) order by all")

    def run(self, *options: str, code: int | None = 0) -> str:
        """Run to the end of what is there (--once); what it printed."""
        done = self.lakehouse.run(
            "lakebed", "stream", "--once", *options, str(self.file), check=False
        )
        output = done.stdout + done.stderr
        assert code is None or done.returncode == code, (done.returncode, output)
        return output


def read(broker: Broker, topic: str) -> Iterator[Message]:
    """Every record that a reader of committed records gets."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.servers,
            "group.id": "check",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        }
    )
    parts = consumer.list_topics(topic).topics[topic].partitions
    consumer.assign([TopicPartition(topic, part, 0) for part in parts])
    ended = set()
    while len(ended) < len(parts):
        for message in consumer.consume(10_000, 0.5):
            if message.error() is not None:
                ended.add(message.partition())
            else:
                yield message
    consumer.close()


def everything(broker: Broker, topic: str) -> list[tuple[str, int, int]]:
    """Topic, partition and offset of each of them."""
    return sorted((topic, each.partition(), each.offset()) for each in read(broker, topic))


def checksums(broker: Broker, topic: str) -> list[tuple[str, int, int, str]]:
    """And a checksum of its key and value."""
    return sorted(
        (
            topic,
            each.partition(),
            each.offset(),
            sha256((each.key() or b"") + (each.value() or b"")).hexdigest(),
        )
        for each in read(broker, topic)
    )


def peak_memory(process: int) -> int:
    """Megabytes that a process has had at most."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) // 1024


def send(
    broker: Broker,
    topic: str,
    messages: Iterable[tuple[bytes | str | None, bytes | str | None]],
    headers: list[tuple[str, bytes | None]] | None = None,
    partition: int | None = None,
) -> None:
    """Send pairs of key and value, and wait until the broker has them all."""
    producer = Producer({"bootstrap.servers": broker.servers, "log_level": 0})
    where = {} if partition is None else {"partition": partition}
    failed: list[Any] = []
    for key, value in messages:
        producer.produce(
            topic,
            key=key,
            value=value,
            headers=headers,
            on_delivery=lambda error, _message: error and failed.append(error),
            **where,
        )
        producer.poll(0)
    assert producer.flush(60) == 0
    assert not failed


def lakebed(lakehouse: Lakehouse, *arguments: str, code: int = 0) -> str:
    """Run the command; standard output, and standard error when it fails."""
    done = lakehouse.run("lakebed", *arguments, check=False)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout if code == 0 else done.stderr
