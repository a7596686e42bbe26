"""The outbox to Kafka: `lakebed relay`, each event once, in the order of the commits.

`lakebed capture` has brought the outbox to bronze in the order of the log. A batch of its events,
and how far it reaches, are one transaction of Kafka: the position is a record in a topic of the
relay's own. So whoever is killed whenever, readers of committed records have each event once. Kafka
lets one relay of a name live: the older one is fenced.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from lakebed.errors import UserError
from lakebed.ingest.config import Limits, above_0, limits_of, mapping, named, only, render
from lakebed.ingest.faults import Faults
from lakebed.ingest.patience import Patience, TryLater
from lakebed.project import Lake

PATTERNS = ["pat-outbox-cdc"]

#: The steps of one batch; see lakebed.ingest.faults.
POINTS = ("received", "begun", "produced", "position-sent", "committed")
_NAMES = ("id", "aggregatetype", "aggregateid", "type")
_FIELD = re.compile(r"\{(aggregatetype|type)\}")
#: Seconds for Kafka to answer.
_ANSWER = 30.0


@dataclass(frozen=True)
class RelayConfig:
    """`table` of bronze is the captured outbox; `topic` may have {aggregatetype} and {type} in it;
    `every` is in seconds: so often the lake is asked for more."""

    name: str
    table: str
    topic: str
    kafka: dict[str, Any]
    every: float = 1.0
    limits: Limits = field(default_factory=lambda: Limits(rows=1000))

    @property
    def positions(self) -> str:
        """The relay's own topic."""
        return f"lakebed.relay.{self.name}"


@dataclass(frozen=True)
class Event:
    """A row of the outbox, as Debezium's event router has its columns."""

    position: int
    id: str
    aggregatetype: str
    aggregateid: str
    type: str
    payload: str | None


def read_relay(file: Path) -> RelayConfig:
    """Read a relay's file. Raises UserError, with the file and the key."""
    where = str(file)
    content = mapping(render(file), where)
    only(content, {"name", "outbox", "kafka", "topic", "every", "batch"}, where)
    kafka = mapping(content.get("kafka"), f"{where}: kafka")
    if not kafka.get("bootstrap.servers"):
        raise UserError(f"{where}: kafka needs bootstrap.servers, e.g. localhost:9092.")
    topic = content.get("topic", "{aggregatetype}.events")
    if not isinstance(topic, str) or not re.fullmatch(r"[\w.-]+", _FIELD.sub("x", topic)):
        raise UserError(
            f"{where}: topic is a name such as {{aggregatetype}}.events, with {{aggregatetype}} "
            f"and {{type}} if wanted, not {topic!r}."
        )
    return RelayConfig(
        named(content.get("name", file.stem), f"{where}: name"),
        named(content.get("outbox"), f"{where}: outbox"),
        topic,
        kafka,
        above_0({"every": content.get("every", 1)}, "every", where),
        limits_of(content.get("batch"), where, Limits(rows=1000)),
    )


class Relay:
    """Sends what is new. Use it as a context.

    Raises UserError for what a person must mend, TryLater when Kafka or the lake is away for too
    long.
    """

    def __init__(self, config: RelayConfig, lake: Lake, patience: Patience, faults: Faults) -> None:
        self.config, self.lake, self.patience, self.faults = config, lake, patience, faults
        self.sent = 0
        self._position: int | None = None
        self._producer: Any = None

    def run(self, stop: threading.Event, once: bool, say: Callable[[str], None]) -> int:
        """Events sent, until `stop`, or with `once` until nothing is new."""
        while not stop.is_set():
            count = self.patience.persist(self._batch)
            if count:
                say(f"{self.sent:,} events sent")
            elif once:
                break
            else:
                stop.wait(self.config.every)
        return self.sent

    def _batch(self) -> int:
        """Send one batch; how many events it has."""
        try:
            if self._producer is None:
                self._begin()
            events = self._events()
            if not events:
                return 0
            self.faults.reach("received")
            self._send(events)
        except KafkaException as error:
            # Whether a transaction went through, the position in its topic says.
            self._producer = None
            raise _explained(error, self.config) from error
        self.sent += len(events)
        self._position = events[-1].position
        return len(events)

    def _begin(self) -> None:
        """End what an older relay of the name has begun, and see how far it came."""
        admin = AdminClient(_settings(self.config))
        if self.config.positions not in admin.list_topics(timeout=_ANSWER).topics:
            new = NewTopic(self.config.positions, 1, -1, config={"cleanup.policy": "compact"})
            try:
                admin.create_topics([new])[self.config.positions].result(_ANSWER)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
        producer = Producer(
            {
                **_settings(self.config),
                "transactional.id": f"lakebed-relay-{self.config.name}",
                "enable.idempotence": True,
                "compression.type": "zstd",
            }
        )
        producer.init_transactions(_ANSWER)
        self._position = self._last_position()
        self._producer = producer

    def _last_position(self) -> int:
        """The position of the last committed batch; -1 before the first."""
        consumer = Consumer(
            {
                **_settings(self.config),
                "group.id": f"lakebed-relay-{self.config.name}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        try:
            part = TopicPartition(self.config.positions, 0, 0)
            consumer.assign([part])
            found = -1
            while True:
                message = consumer.poll(_ANSWER)
                if message is None:
                    raise TryLater(f"Kafka does not answer ({self.config.positions})")
                error = message.error()
                if error is not None:
                    if error.code() == KafkaError._PARTITION_EOF:
                        return found
                    raise KafkaException(error)
                found = int(message.value() or b"-1")
        finally:
            consumer.close()

    def _send(self, events: list[Event]) -> None:
        producer = self._producer
        producer.begin_transaction()
        self.faults.reach("begun")
        for event in events:
            producer.produce(
                topic_of(self.config.topic, event),
                key=event.aggregateid,
                value=event.payload,
                headers=[("id", event.id.encode()), ("eventType", event.type.encode())],
            )
            producer.poll(0)
        self.faults.reach("produced")
        producer.produce(self.config.positions, key=b"position", value=str(events[-1].position))
        self.faults.reach("position-sent")
        producer.commit_transaction(_ANSWER)
        self.faults.reach("committed")

    def _events(self) -> list[Event]:
        """The next events of the outbox; rows that were deleted or changed are none."""
        with self.lake.connect() as connection:
            there = connection.execute(
                "select 1 from duckdb_tables() where schema_name = 'bronze' and table_name = ?",
                [self.config.table],
            ).fetchone()
            if there is None:
                raise UserError(
                    f"There is no bronze.{self.config.table} yet: capture the outbox first."
                )
            rows = connection.execute(
                f"""
                select _offset, _record from bronze.{self.config.table}
                where _offset > ? and json_extract_string(_record, '$.op') in ('c', 'r')
                order by _offset limit {self.config.limits.rows}
                """,
                [self._position],
            ).fetchall()
        return [_event(position, record, self.config) for position, record in rows]


def topic_of(template: str, event: Event) -> str:
    """The topic of an event. Raises UserError for a name that Kafka does not take."""
    values = {"aggregatetype": event.aggregatetype, "type": event.type}
    name = _FIELD.sub(lambda match: values[match[1]], template)
    if not re.fullmatch(r"[\w.-]{1,249}", name):
        raise UserError(f"The event {event.id} would go to a topic named {name!r}, which is none.")
    return name


def _event(position: int, record: str, config: RelayConfig) -> Event:
    row = json.loads(record, parse_float=str).get("after") or {}
    missing = [name for name in _NAMES if row.get(name) is None]
    if missing:
        raise UserError(
            f"bronze.{config.table} at {position:,} has no {missing[0]}: an outbox has the columns "
            "id, aggregatetype, aggregateid, type and payload."
        )
    payload = row.get("payload")
    if payload is not None and not isinstance(payload, str):
        payload = json.dumps(payload, ensure_ascii=False)
    texts = {name: str(row[name]) for name in _NAMES}
    return Event(position, payload=payload, **texts)


def _settings(config: RelayConfig) -> dict[str, Any]:
    return {"log_level": 0, **config.kafka}


def _explained(error: KafkaException, config: RelayConfig) -> Exception:
    told: KafkaError = error.args[0]
    code = told.code()
    if code in (KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
        return UserError(
            f"Another relay named {config.name} has begun, and this one has ended: one is enough."
        )
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return UserError(f"Kafka has no topic for {config.topic}: make it, then run this again.")
    if told.retriable() or told.txn_requires_abort() or code < 0:
        return TryLater(f"Kafka does not do it ({told.str()})")
    return UserError(f"Kafka refuses: {told.str()}.")
