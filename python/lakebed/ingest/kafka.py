"""Kafka to bronze: `lakebed stream`.

The lake has the positions; what the consumer group commits is for people who look at the lag with
Kafka's own tools, and is never read. A rebalance drops what is not yet written: the next owner of
a partition reads it again from the lake's position, and if the old owner still writes, one of the
two is fenced.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime

from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from lakebed.errors import UserError
from lakebed.ingest.breaker import calling
from lakebed.ingest.build import Builder
from lakebed.ingest.config import StreamConfig
from lakebed.ingest.faults import Faults
from lakebed.ingest.patience import TryLater
from lakebed.ingest.records import Entity, Record, judge
from lakebed.ingest.registry import Ask, Framed, Registry
from lakebed.ingest.sink import Fenced, Place
from lakebed.ingest.sinks import BatchSink

PATTERNS = ["pat-streaming-ingest", "pat-exactly-once", "pat-backpressure-strategies"]

Say = Callable[[str], None]
#: Seconds until a broker must have answered, unless a shorter time to connect is set.
ANSWER = 10.0
#: Records that are taken from librdkafka at once. A batch is that many over its bytes at most, and
#: more at once is no faster.
LOT = 32
#: The broker is not there, or not yet again.
_GONE = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._UNKNOWN_PARTITION)


@dataclass
class Totals:
    """What one run did: records into bronze, into the DLQ, batches, times fenced."""

    rows: int = 0
    rejected: int = 0
    batches: int = 0
    fenced: int = 0


@dataclass
class Buffer:
    """Records that are read and not written."""

    records: list[tuple[Entity, Record]] = field(default_factory=list)
    bytes: int = 0
    since: float = 0.0
    last: dict[Place, int] = field(default_factory=dict)


class KafkaStream:
    """One consumer of a stream's group.

    `once`: end when all that is there has been written. `skip_lost`: go on from the oldest
    record when records between the lake's position and the broker's oldest are gone. `builder`:
    build what reads the records, too.
    """

    def __init__(
        self,
        config: StreamConfig,
        sink: BatchSink,
        say: Say,
        stop: threading.Event,
        faults: Faults,
        once: bool = False,
        skip_lost: bool = False,
        builder: Builder | None = None,
    ) -> None:
        self.builder = builder
        self.config, self.sink, self.say, self.stop = config, sink, say, stop
        self.faults, self.once, self.skip_lost = faults, once, skip_lost
        self.totals = Totals()
        self._buffer = Buffer()
        self._assigned: list[Place] = []
        self._placed = True
        self._positions: dict[Place, int] = {}
        self._ended: set[Place] = set()
        self._joined = False
        self._resting = False
        self._away = ""
        #: Records the broker has and the lake has not, at the last batch.
        self.known_lag = 0
        sink.patience.pause = self._wait
        connect = config.kafka.get("socket.connection.setup.timeout.ms", ANSWER * 1000)
        self._answer = min(ANSWER, float(connect) / 1000)
        try:
            self._consumer = Consumer(self._settings(), logger=None)
        except KafkaException as error:
            raise UserError(f"Kafka's settings: {error.args[0].str()}.") from error

    def _settings(self) -> dict[str, object]:
        return {
            "group.id": f"lakebed-{self.config.name}",
            "isolation.level": "read_committed",
            # Memory: librdkafka's own default is 64 MB, and 1 GB with many partitions.
            "queued.max.messages.kbytes": 32 * 1024,
            **self.config.kafka,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "partition.assignment.strategy": "range,roundrobin",
            "log_level": 0,
            "error_cb": self._on_error,
        }

    def run(self) -> Totals:
        """Work until `stop`, or with `once` until all is read. Raises UserError."""
        consumer = self._consumer
        try:
            self._check_topics()
            self._check_schemas()
            consumer.subscribe(
                list(self.config.topics),
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_revoke,
            )
            while not self.stop.is_set():
                if self._joined and not self._placed:
                    self._place()
                self._read()
                if self._due():
                    self._write()
                self._build()
                if self.once and self._all_read() and not self._buffer.records:
                    break
            self._write()
            self._build(last=True)
        except KafkaException as error:
            raise UserError(f"Kafka: {error.args[0].str()}.") from error
        except TryLater as error:
            raise UserError(f"{error}. Nothing that was read is lost.") from error
        finally:
            consumer.close()
        return self.totals

    @property
    def reading(self) -> bool:
        """Whether it is in the group, and knows where to read."""
        return self._joined and self._placed

    def _lag(self) -> int:
        behind = 0
        for place in self._assigned:
            _low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            behind += max(0, high - self._positions.get(place, 0))
        return behind

    # --- the group -------------------------------------------------------------------------

    def _check_topics(self) -> None:
        servers = self.config.kafka["bootstrap.servers"]
        call = calling(self.sink, f"kafka {servers}", self.config.fuse, self.say)
        try:
            known = call(self._topics)
        except TryLater as error:
            raise UserError(str(error)) from error
        if missing := sorted(set(self.config.topics) - set(known)):
            have = sorted(name for name in known if not name.startswith("__"))
            raise UserError(
                f"Kafka at {servers} has no topic {missing[0]}; it has "
                f"{', '.join(have[:8]) or 'none'}."
            )

    def _check_schemas(self) -> None:
        """A schema that breaks what was agreed is said before anything of it is read."""
        for topic, entity in self.config.topics.items():
            keys = entity.key_decoder and entity.key_decoder.decoder
            for decoder in (keys, entity.decoder):
                if isinstance(decoder, Framed):
                    decoder.registry.guard = self._guard(decoder.registry)
            framed = entity.decoder
            if not isinstance(framed, Framed):
                continue
            if framed.registry.compatibility and self.sink.lake.exists:
                last = self.sink.patience.persist(
                    lambda: self._last_schema(entity.table, topic)  # noqa: B023  # called at once
                )
                if last is not None:
                    framed.registry.check(topic, framed.subject or f"{topic}-value", last)

    def _last_schema(self, table: str, topic: str) -> str | None:
        """The schema of the newest record of a topic, as bronze has it."""
        with self.sink.attached():
            found = self.sink.query(
                f"select _schema_id from bronze.{table} where _topic = ? and _schema_id is not null"
                " order by _batch_id desc, _offset desc limit 1",
                [topic],
            )
        return found[0][0] if found else None

    def _guard(self, registry: Registry) -> Ask:
        call = calling(self.sink, f"registry {registry.url}", self.config.fuse, self.say)
        return lambda action: self.sink.patience.persist(lambda: call(action))

    def _topics(self) -> Collection[str]:
        servers = self.config.kafka["bootstrap.servers"]
        try:
            return list(self._consumer.list_topics(timeout=self._answer).topics)
        except KafkaException as error:
            raise TryLater(
                f"No Kafka broker answers at {servers} ({error.args[0].str()}): check "
                "bootstrap.servers, the network and the security settings."
            ) from error

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Where to read is not known here, and finding out may have to wait for the lake: _place
        # does it, and until then nothing is read.
        self._assigned = [(part.topic, part.partition) for part in partitions]
        self._forget()
        consumer.assign([])
        self._joined = True

    def _on_revoke(self, consumer: Consumer, _partitions: list[TopicPartition]) -> None:
        self._assigned, self._joined = [], False
        self._forget()
        consumer.unassign()

    def _forget(self) -> None:
        """Drop what is not written, and ask the lake again where to read."""
        self._buffer = Buffer()
        self._ended = set()
        self._placed = False

    def _place(self) -> None:
        """Read on from the lake's positions; a partition without one gets its first. Without a
        broker nothing is placed, and it is called again."""
        try:
            self._place_all(self._assigned)
        except KafkaException as error:
            if error.args[0].code() not in _GONE and not error.args[0].retriable():
                raise

    def _place_all(self, assigned: list[Place]) -> None:
        held = self.sink.positions()
        missing = [place for place in assigned if place not in held]
        first = self._first_positions(missing, {topic for topic, _ in held})
        moves: dict[Place, tuple[int | None, int]] = {
            place: (None, offset) for place, offset in first.items()
        }
        for place in assigned:
            if place in held and (offset := self._lost(place, held[place])) is not None:
                moves[place] = (held[place], offset)
        if moves:
            try:
                self.sink.write({}, [], moves)
            except Fenced:
                return
        if self._assigned is not assigned:
            return  # a rebalance, while the lake was waited for
        self._positions = {**held, **{place: offset for place, (_, offset) in moves.items()}}
        self._consumer.assign(
            [TopicPartition(*place, self._positions[place]) for place in assigned]
        )
        self._consumer.resume([TopicPartition(*place) for place in assigned])
        self._placed = True
        self.say(f"Reading {len(assigned)} partitions.")

    def _first_positions(self, missing: list[Place], known: set[str]) -> dict[Place, int]:
        start = self.config.start
        found = {}
        for place in missing:
            part = TopicPartition(*place)
            low, high = self._consumer.get_watermark_offsets(part, timeout=ANSWER)
            found[place] = low
            if place[0] in known:
                continue  # the topic has grown by a partition: all of it is new
            if start == "latest":
                found[place] = high
            elif isinstance(start, datetime):
                part.offset = int(start.timestamp() * 1000)
                (answer,) = self._consumer.offsets_for_times([part], timeout=ANSWER)
                found[place] = answer.offset if answer.offset >= 0 else high
        return found

    def _lost(self, place: Place, position: int) -> int | None:
        """Where to go on when the broker no longer has the position; None when it has it."""
        low, high = self._consumer.get_watermark_offsets(TopicPartition(*place), timeout=ANSWER)
        if low <= position <= high:
            return None
        name = f"{place[0]}/{place[1]}"
        what = (
            f"{low - position:,} records of {name} are gone: the broker's oldest is {low:,}, "
            f"the lake has read up to {position:,}"
            if position < low
            else f"{name} ends at {high:,}, but the lake has read up to {position:,}: the topic "
            "was made anew"
        )
        if not self.skip_lost:
            raise UserError(f"{what}. To go on from its oldest record: --skip-lost.")
        self.say(f"Skipping: {what}.")
        return int(low)

    # --- records ---------------------------------------------------------------------------

    def _read(self) -> None:
        buffer, limits = self._buffer, self.config.limits
        room = max(1, min(limits.rows - len(buffer.records), LOT))
        wait = 0.2
        if buffer.records:
            wait = max(0.0, min(wait, buffer.since + limits.age - time.monotonic()))
        messages = self._consumer.consume(room, wait)
        if buffer is not self._buffer:
            return  # a rebalance: these are nobody's any more
        for message in messages:
            if message.error() is not None:
                self._on_message_error(message)
                continue
            self._take(buffer, message)
        if messages and buffer.records:
            self.faults.reach("received")

    def _take(self, buffer: Buffer, message: Message) -> None:
        topic, partition, offset = _place_of(message)
        kind, sent_at = message.timestamp()
        record = Record(
            topic,
            partition,
            offset,
            message.key(),
            message.value(),
            message.headers() or [],  # type: ignore[arg-type]
            None if kind == TIMESTAMP_NOT_AVAILABLE else sent_at,
        )
        if not buffer.records:
            buffer.since = time.monotonic()
        buffer.records.append((self.config.topics[topic], record))
        buffer.bytes += record.size
        buffer.last[topic, partition] = offset
        if self._ended:
            self._ended.discard((topic, partition))
        self._away = ""

    def _due(self) -> bool:
        buffer, limits = self._buffer, self.config.limits
        return bool(buffer.records) and (
            len(buffer.records) >= limits.rows
            or buffer.bytes >= limits.bytes
            or time.monotonic() - buffer.since >= limits.age
            or (self.once and self._all_read())
        )

    def _all_read(self) -> bool:
        return self._joined and self._placed and self._ended >= set(self._assigned)

    def _write(self) -> None:
        buffer = self._buffer
        if not buffer.records:
            return
        moves: dict[Place, tuple[int | None, int]] = {
            place: (self._positions[place], last + 1) for place, last in buffer.last.items()
        }
        try:
            good, rejected = judge(buffer.records)  # which may wait for a registry
            self.sink.write(good, rejected, moves)
        except Fenced:
            self.totals.fenced += 1
            self.say("Another process has written these records: reading on from where it ended.")
            self._forget()
            return
        finally:
            self._resume()
        self.totals.rows += sum(map(len, good.values()))
        self.totals.rejected += len(rejected)
        self.totals.batches += 1
        if self._buffer is buffer:  # else a rebalance: positions are read anew
            self._buffer = Buffer()
            self._positions.update({place: new for place, (_, new) in moves.items()})
            self._tell_group(moves)
            self.known_lag = self._lag()
        self.faults.reach("acknowledged")

    def _tell_group(self, moves: dict[Place, tuple[int | None, int]]) -> None:
        """For those who look at the lag with Kafka's tools; nobody here reads it."""
        offsets = [TopicPartition(*place, new) for place, (_, new) in moves.items()]
        self._consumer.commit(offsets=offsets, asynchronous=True)

    def _wait(self, seconds: float) -> None:
        """Sleep, and stay in the group."""
        if self._placed:
            self._consumer.pause([TopicPartition(*place) for place in self._assigned])
            self._resting = True
        message = self._consumer.poll(0)
        if message is not None and message.error() is None:
            self._forget()  # read, but not taken: it is read again from the lake's position
        time.sleep(seconds)

    def _resume(self) -> None:
        if self._resting and self._placed:
            self._consumer.resume([TopicPartition(*place) for place in self._assigned])
        self._resting = False

    def _build(self, last: bool = False) -> None:
        if self.builder is not None:
            try:
                self.builder.turn(self._wait, last=last)
            finally:
                self._resume()

    # --- errors ----------------------------------------------------------------------------

    def _on_message_error(self, message: Message) -> None:
        error = message.error()
        assert error is not None
        code = error.code()
        if code == KafkaError._PARTITION_EOF:
            self._ended.add(_place_of(message)[:2])
        elif code in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._forget()  # _place says what is lost
        elif code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            raise UserError(f"The topic {message.topic()} is gone. Nothing read of it is lost.")
        else:
            self._on_error(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError._AUTHENTICATION,
            KafkaError.SASL_AUTHENTICATION_FAILED,
        ):
            raise UserError(f"Kafka refuses: {error.str()}.")
        down = error.code() == KafkaError._ALL_BROKERS_DOWN
        if down and self._joined and not self._away:  # before, _check_topics says it
            self._away = error.str()
            self.say("Waiting: no Kafka broker answers; nothing is lost, reading goes on with it.")


def _place_of(message: Message) -> tuple[str, int, int]:
    """Topic, partition and offset; a message that was consumed has them."""
    return message.topic(), message.partition(), message.offset()  # type: ignore[return-value]
