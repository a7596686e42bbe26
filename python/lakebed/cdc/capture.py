"""A database's log to bronze: `lakebed capture`.

The lake has the position: where the log can be read on, written with the changes in one
transaction. The slot of the database only follows it. A batch is made of whole transactions, so
that the lake never shows half of one, unless a transaction is larger than a batch may be; then the
place in it is written, too, and what the log repeats of it is dropped.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lakebed.cdc.config import CaptureConfig
from lakebed.cdc.engine import START, Engine, Event, resume_at
from lakebed.cdc.source import MARK, Source, gone, no_other_way, record_of
from lakebed.errors import UserError
from lakebed.ingest.build import Builder
from lakebed.ingest.faults import Faults
from lakebed.ingest.patience import TryLater
from lakebed.ingest.records import Entity, Record, judge
from lakebed.ingest.sink import Fenced, Place
from lakebed.ingest.sinks import BatchSink

PATTERNS = ["pat-cdc-log-based", "pat-exactly-once"]

#: Changes are numbered as they come: the log has one order.
LOG: Place = ("log", 0)
#: So are those of a change table.
CHANGES: Place = ("changes", 0)
#: Seconds between two marks while the end of the log is awaited.
MARK_EVERY = 1.0
#: Seconds that the slot is given to follow, at the end; if it does not, the next run lets it.
SETTLE = 3.0


@dataclass(frozen=True)
class State:
    """What the lake knows of the log. `snapshot` is begun or done; `offset` the engine's, after the
    last whole transaction, and `lsn` its place in bytes; `transaction` and `order` how far the one
    after it is written. `slot` is the one that this lake made."""

    database: str
    slot: str
    snapshot: str = "begun"
    offset: str | None = None
    lsn: int = 0
    transaction: int | None = None
    order: int = 0
    run: str = ""


@dataclass
class Totals:
    """What one run did: changes into bronze, into the DLQ, batches."""

    rows: int = 0
    rejected: int = 0
    batches: int = 0


@dataclass
class _Pending:
    """Changes that are read and not written. `whole` of them are whole transactions, after which
    the log goes on at `offset`; they came in `events` events of the engine's."""

    records: list[tuple[Entity, Record]] = field(default_factory=list)
    whole: int = 0
    whole_events: int = 0
    events: int = 0
    bytes: int = 0
    offset: str | None = None
    snapshot: str | None = None
    transaction: int | None = None
    order: int = 0


class Capture:
    """Reads the log until `stop`, or with `once` to its end of now. `resnapshot`: all anew;
    `builder`: build what reads the changes, too."""

    def __init__(
        self,
        config: CaptureConfig,
        sink: BatchSink,
        say: Callable[[str], None],
        stop: threading.Event,
        faults: Faults,
        once: bool = False,
        resnapshot: bool = False,
        verbose: bool = False,
        builder: Builder | None = None,
    ) -> None:
        self.builder = builder
        self.config, self.sink, self.say, self.stop = config, sink, say, stop
        self.faults, self.once, self.resnapshot, self.verbose = faults, once, resnapshot, verbose
        self.source = Source(config)
        self.totals = Totals()
        self._topics = {f"{config.name}.{table}": entity for table, entity in config.tables.items()}
        self._token = uuid.uuid4().hex
        self._ended = False

    def run(self) -> Totals:
        """Work. Raises UserError; and TryLater when the database is away for too long."""
        for warning in self.sink.patience.persist(self.source.check):
            self.say(warning)
        while not self._ended and not self.stop.is_set():
            self.sink.patience.persist(self._work)
        self._build(last=True)
        return self.totals

    def _build(self, more: bool = False, last: bool = False) -> None:
        if self.builder is not None:
            self.builder.turn(time.sleep, more, last)

    # --- where to begin ----------------------------------------------------------------------

    def _place(self) -> tuple[int | None, State | None]:
        states = self.sink.states()
        no_other_way(states, CHANGES, self.config)
        held = states.get(LOG)
        if held is None:
            return None, None
        return held[0], State(**json.loads(held[1]))

    def _begin(self) -> tuple[int, State]:
        """Where to read on; a snapshot that must be made is noted before it begins."""
        position, state = self._place()
        if state is not None and state.snapshot == "done" and not self.resnapshot:
            self.source.check_resumable(state.database, state.lsn)
            assert position is not None
            return position, state
        ours = state is not None and state.slot == self.config.slot
        self.source.check_slot(ours)
        known = state.lsn if state is not None else 0
        new = State(self.source.identity(), self.config.slot, lsn=known, run=self._token)
        void: list[tuple[Entity, Record]] = []
        if position:
            # What was read before may be gone by now, without a word in the log.
            log_end, micros = self.source.log_end(known)
            void = [
                (entity, record_of(self.config, position + number, table, None, event))
                for number, (table, entity) in enumerate(self.config.tables.items())
                for event in [gone(self.config, table, log_end, micros)]
            ]
        self._write(void, position, new)
        self.source.begin()
        self.resnapshot = False
        self.say("Reading all tables, then the log.")
        return (position or 0) + len(void), new

    # --- work --------------------------------------------------------------------------------

    def _work(self) -> None:
        """Work until the end, or until the database or the engine is gone: the lake knows where to
        go on. Raises TryLater when they were not there at all."""
        position, state = self._begin()
        self._wait_for_slot()
        heard: list[Sequence[Event]] = []
        try:
            self._follow(position, state, heard)
        except TryLater as error:
            if not heard:
                raise
            self.say(f"{error}; beginning anew.")

    def _follow(self, position: int, state: State, heard: list[Sequence[Event]]) -> None:
        pending = _Pending(transaction=state.transaction, order=state.order)
        written_at = marked_at = 0.0
        acknowledged = 0
        started = time.monotonic()
        every = MARK_EVERY if self.once else self.config.heartbeat
        offset = None
        if state.snapshot == "done" and state.offset:
            offset = resume_at(state.offset, self.source.kept())
        with Engine(self.source.settings(), offset, self.verbose) as engine:
            while not self._ended and not self.stop.is_set():
                now = time.monotonic()
                if now - marked_at >= every:
                    self.source.mark(self._token)
                    marked_at = now
                events = engine.poll(0.1)
                if events is not None:
                    heard[:] = [events]
                    self._take(pending, events, state)
                    if pending.records:
                        self.faults.reach("received")
                elif not heard and now - started > START:
                    raise TryLater("The Debezium engine does not answer")
                if self._due(pending, written_at):
                    before = state.snapshot
                    position, state, events_written = self._flush(pending, position, state)
                    if before != state.snapshot:
                        # The log is read by an engine that knows where the snapshot was.
                        self._ended = False
                        return
                    acknowledged += events_written
                    written_at = time.monotonic()
                if events is not None:
                    engine.answer(acknowledged)
                    if acknowledged:
                        self.faults.reach("acknowledged")
                    acknowledged = 0
                if state.snapshot == "done":  # one that is cut is made anew: no time to lose
                    self._build(more=events is not None)
            if self._ended:
                self._settle(state)
            self._flush(pending, position, state)

    def _settle(self, state: State) -> None:
        """Let the slot follow before the engine is ended: else the database keeps its log for the
        next run, and the one after."""
        until = time.monotonic() + SETTLE
        while self.source.confirmed() < state.lsn and time.monotonic() < until:
            time.sleep(0.05)

    def _wait_for_slot(self) -> None:
        """A capture that was killed a moment ago still holds the slot; one that runs, too."""
        until = time.monotonic() + 10
        while self.source.busy():
            if time.monotonic() > until:
                raise TryLater(
                    f"Another process reads from the slot {self.config.slot}", failing=False
                )
            time.sleep(0.1)

    def _take(self, pending: _Pending, events: Sequence[Event], state: State) -> None:
        for event in events:
            pending.events += 1
            if event.topic == f"{self.config.name}.transaction":
                if event.offset is not None:
                    self._boundary(pending, event.offset, "done")
                continue
            content = json.loads(event.value) if event.value is not None else {}
            if event.topic == f"{self.config.name}.message":
                self._ended |= self.once and self._is_mark(content)
                continue
            entity = self._topics.get(event.topic)
            if entity is None or not content:
                continue
            transaction = (content.get("transaction") or {}).get("total_order")
            if transaction is not None:
                number = int(content["source"]["txId"])
                if number == state.transaction and transaction <= state.order:
                    continue  # written before, when the transaction was too large for a batch
                pending.transaction, pending.order = number, transaction
            table = event.topic.removeprefix(f"{self.config.name}.")
            record = record_of(self.config, 0, table, event.key, event.value or "")
            pending.records.append((entity, record))
            pending.bytes += record.size
            if transaction is None and event.offset is not None:
                # Of a snapshot, or the last of it: "snapshot_completed" says which.
                done = json.loads(event.offset).get("snapshot_completed", False)
                self._boundary(pending, event.offset, "done" if done else "begun")

    def _boundary(self, pending: _Pending, offset: str, snapshot: str) -> None:
        pending.whole, pending.whole_events = len(pending.records), pending.events
        pending.offset, pending.snapshot = offset, snapshot
        pending.transaction, pending.order = None, 0

    def _is_mark(self, content: dict[str, Any]) -> bool:
        from base64 import b64decode

        message = content.get("message") or {}
        return (
            message.get("prefix") == MARK
            and b64decode(message.get("content") or "").decode("utf-8", "replace") == self._token
        )

    def _full(self, pending: _Pending) -> bool:
        limits = self.config.limits
        return len(pending.records) >= limits.rows or pending.bytes >= limits.bytes

    def _due(self, pending: _Pending, written_at: float) -> bool:
        old = time.monotonic() - written_at >= self.config.limits.age
        return self._full(pending) or (pending.whole_events > 0 and (old or self._ended))

    def _flush(self, pending: _Pending, position: int, state: State) -> tuple[int, State, int]:
        """Write what is whole, or a part of what is too large; how many events that settles."""
        if pending.whole_events:
            count, events = pending.whole, pending.whole_events
            new = replace(
                state,
                snapshot=pending.snapshot or state.snapshot,
                offset=pending.offset,
                lsn=max(state.lsn, json.loads(pending.offset or "{}").get("lsn") or 0),
                transaction=None,
                order=0,
            )
        elif self._full(pending):
            # The slot does not pass a transaction before its end, whatever it is told.
            count, events = len(pending.records), pending.events
            new = replace(state, transaction=pending.transaction, order=pending.order)
        else:
            return position, state, 0
        rows = [
            (entity, record._replace(offset=position + number))
            for number, (entity, record) in enumerate(pending.records[:count])
        ]
        self._write(rows, position, new)
        del pending.records[:count]
        pending.bytes = sum(record.size for _, record in pending.records)
        pending.events -= events
        pending.whole = pending.whole_events = 0
        return position + count, new, events

    def _write(
        self, rows: Sequence[tuple[Entity, Record]], position: int | None, state: State
    ) -> None:
        state = replace(state, run=f"{self._token}.{self.totals.batches}")
        write_changes(self.sink, self.config, LOG, rows, position, state, self._place, self.totals)


def write_changes(
    sink: BatchSink,
    config: CaptureConfig,
    place: Place,
    rows: Sequence[tuple[Entity, Record]],
    position: int | None,
    state: Any,
    held: Callable[[], tuple[int | None, Any]],
    totals: Totals,
) -> None:
    """Write changes and the state after them, a dataclass, and count them in `totals`. `held` asks
    the lake for position and state. Raises UserError when another process captures the same."""
    good, rejected = judge(rows)
    end = (position or 0) + len(rows)
    try:
        sink.write(good, rejected, {place: (position, end)}, {place: json.dumps(state.__dict__)})
    except Fenced:
        # Of a commit whose answer was lost, this is the answer.
        if sink.patience.persist(held) != (end, state):
            raise UserError(
                f"Another process captures {config.name} into this lake, too."
            ) from None
    totals.rows += sum(map(len, good.values()))
    totals.rejected += len(rejected)
    totals.batches += 1
