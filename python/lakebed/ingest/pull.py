"""HTTP APIs to bronze: `lakebed pull`.

A page's new records and the state that asks for the next page are one transaction of the lake. What
is read twice (an overlap, a page that shifted, a run that was killed) is known by its id: a record
is new when the latest that the lake has of its id, in bronze or in the DLQ, is another text.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from lakebed.errors import UserError
from lakebed.ingest import paging
from lakebed.ingest.dlq import Place, Placed
from lakebed.ingest.faults import Faults
from lakebed.ingest.fields import noticed
from lakebed.ingest.paging import Answer, Page, State
from lakebed.ingest.pull_config import PullConfig, Resource
from lakebed.ingest.records import Entity, Record, Rejected, judge
from lakebed.ingest.requests import Requests, Stopped
from lakebed.ingest.sink import Fenced
from lakebed.ingest.sinks import BatchSink
from lakebed.ingest.tables import DLQ

PATTERNS = ["pat-api-pull"]

#: Characters of a key that can be looked up; a longer one is no id.
LONGEST_ID = 500


@dataclass
class Totals:
    """What one run did: records into bronze, into the DLQ, seen before; requests answered."""

    rows: int = 0
    rejected: int = 0
    known: int = 0
    pages: int = 0


@dataclass(frozen=True)
class _Candidate:
    """A record of a page, not placed yet. `problem`: why it cannot be bronze."""

    text: str
    key: str | None
    when: datetime | None
    problem: str | None = None


class Puller:
    """Reads all resources of an API once; `run` it again for what is new then."""

    def __init__(
        self,
        config: PullConfig,
        sink: BatchSink,
        requests: Requests,
        say: Callable[[str], None],
        stop: threading.Event,
        faults: Faults,
    ) -> None:
        self.config, self.sink, self.requests = config, sink, requests
        self.say, self.stop, self.faults = say, stop, faults
        self.totals = Totals()

    def run(self) -> Totals:
        """Read what is there. Raises UserError; and TryLater when the API fails for too long."""
        try:
            for name, resource in self.config.resources.items():
                self._pull(name, resource)
        except Stopped:
            pass
        return self.totals

    def _pull(self, name: str, resource: Resource) -> None:
        position, state = self._place(name)
        while not self.stop.is_set():
            page = self._ask(resource, state)
            self.faults.reach("received")
            candidates = [_candidate(resource, text) for text in page.records]
            fresh = self._new(name, resource, candidates)
            begin = position or 0
            good, rejected = _judged(name, resource, begin, fresh)
            times = [each.when for each in candidates if each.when is not None]
            fields, news = noticed(state.fields, (each.text for each in fresh))
            last = candidates[-1].key if candidates else None
            following, done = paging.after(
                self.config,
                resource,
                replace(state, fields=fields),
                page,
                times,
                len(fresh),
                last,
            )
            end = begin + len(fresh)
            if fresh or following != state or position is None:
                try:
                    place = (name, 0)
                    self.sink.write(
                        good, rejected, {place: (position, end)}, {place: following.text}
                    )
                except Fenced:
                    self.say(f"Another process pulls {name}, too: going on where it is.")
                    position, state = self._place(name)
                    continue
            self.totals.rows += sum(map(len, good.values()))
            self.totals.rejected += len(rejected)
            self.totals.known += len(candidates) - len(fresh)
            self.totals.pages += 1
            for each_new in news:
                self.say(f"The schema of {name} has changed: {each_new}.")
            self.sink.meter.schema_changes[resource.entity.table] += len(news)
            self.faults.reach("acknowledged")
            position, state = end, following
            if done:
                return

    def _place(self, name: str) -> tuple[int | None, State]:
        def ask() -> tuple[int | None, State]:
            held = self.sink.states().get((name, 0))
            return (None, State()) if held is None else (held[0], State.of(held[1]))

        return self.sink.patience.persist(ask)

    def _ask(self, resource: Resource, state: State) -> Page:
        pages: list[Page] = []

        def take(answer: Answer) -> None:
            pages.append(paging.read_page(resource, answer))

        self.requests.ask(paging.request(self.config, resource, state), take)
        return pages[-1]

    def _new(
        self, name: str, resource: Resource, candidates: Sequence[_Candidate]
    ) -> list[_Candidate]:
        """Those that the lake does not have, in their order."""
        if not candidates:
            return []
        held = self.sink.patience.persist(lambda: self._held(name, resource, candidates))
        fresh = []
        for each in candidates:
            # Without an id a record is known by its whole text.
            key = each.text if each.key is None else f"id {each.key}"
            if held.get(key) != each.text:
                fresh.append(each)
                held[key] = each.text
        return fresh

    def _held(
        self, name: str, resource: Resource, candidates: Sequence[_Candidate]
    ) -> dict[str, str]:
        """The latest text of each id that the lake has, and texts without an id."""
        ids = [each.key for each in candidates if each.key is not None]
        texts = [each.text.encode() for each in candidates if each.key is None]
        times = [each.when for each in candidates if each.when is not None]
        condition: str = ""
        values: list[Any] = [name, self.config.name, ids]
        if times and len(times) == len(candidates):
            # An equal record has an equal time: older files are not read.
            condition = "and _sent_at >= ?"
            values.append(min(times).replace(tzinfo=None, microsecond=0))
        with self.sink.attached():
            rows = self.sink.query(
                f"""
                select _key, _record, _offset from bronze.{resource.entity.table}
                where _topic = ? and _source = ? and array_contains(?, _key) {condition}
                """,
                values,
            )
            refused = self.sink.query(
                f"""
                select record_key, record_value, position from {DLQ}
                where stream = ? and topic = ? and (
                    array_contains(?, record_key)
                    or (record_key is null and array_contains(?, record_value))
                )
                """,
                [self.config.name, name, [each.encode() for each in ids], texts],
            )
        found = [(position, f"id {key}", text) for key, text, position in rows]
        for key, value, position in refused:
            text = value.decode()
            found.append((position, text if key is None else f"id {key.decode()}", text))
        return {key: text for _, key, text in sorted(found)}


def placing(config: PullConfig) -> Place:
    """How a pull places a record of the DLQ: by its id and time, as its file has them now."""

    def place(record: Record) -> Placed:
        resource = config.resources.get(record.topic)
        if resource is None:
            raise UserError(
                f"{config.name} no longer has the resource {record.topic}; discard its records."
            )
        each = _candidate(resource, (record.value or b"").decode(errors="replace"))
        placed = _record(record.topic, record.offset, each)._replace(value=record.value)
        return resource.entity, placed, each.problem

    return place


def _candidate(resource: Resource, text: str) -> _Candidate:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return _Candidate(text, None, None)  # `judge` says why
    key = paging.dig(content, resource.id)
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not key or len(key) > LONGEST_ID or "\0" in key:
        return _Candidate(text, None, None, f"{resource.id} is no id (a short text, or a number)")
    if _broken(key):
        return _Candidate(text, None, None, f"{resource.id} is not valid text")
    since = resource.since
    if since is None:
        return _Candidate(text, key, None)
    when = paging.moment(paging.dig(content, since.field), since.time)
    if when is None:
        return _Candidate(text, key, None, f"{since.field} is not a time ({since.time})")
    return _Candidate(text, key, when)


def _broken(text: str) -> bool:
    """Half of a surrogate pair, which JSON can write and UTF-8 cannot."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def _judged(
    name: str, resource: Resource, begin: int, fresh: Sequence[_Candidate]
) -> tuple[dict[Entity, list[Record]], list[Rejected]]:
    """Records for bronze and for the DLQ, numbered from `begin`."""
    entity = resource.entity
    placed = [(_record(name, begin + number, each), each) for number, each in enumerate(fresh)]
    good, rejected = judge((entity, record) for record, each in placed if not each.problem)
    rejected += [
        Rejected(record, entity.table, "schema", each.problem)
        for record, each in placed
        if each.problem
    ]
    return good, rejected


def _record(name: str, offset: int, each: _Candidate) -> Record:
    key = None if each.key is None else each.key.encode()
    sent: Any = None if each.when is None else int(each.when.timestamp() * 1000)
    return Record(name, 0, offset, key, each.text.encode(), [], sent)
