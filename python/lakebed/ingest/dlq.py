"""`lakebed dlq`: look at what was refused, deliver it after a fix, or let it go.

A replay writes the row of bronze, and marks the record of the DLQ, in one transaction that is
fenced as the stream's own are: killed anywhere, or run twice at once, it delivers once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timezone
from typing import Any

from lakebed.errors import UserError
from lakebed.ingest.faults import Faults
from lakebed.ingest.patience import Patience
from lakebed.ingest.records import Entity, Record, Rejected, judge
from lakebed.ingest.sink import Fenced
from lakebed.ingest.sinks import BatchSink, Reader, open_sink, reading
from lakebed.ingest.tables import DLQ, DLQ_COLUMNS, Mark, utc_now
from lakebed.project import Lake, SparkLake

PATTERNS = ["pat-dlq"]

STATUSES = ("open", "replayed", "discarded")
_NONE = "There is no DLQ yet: `lakebed stream` or `lakebed webhook` makes it."

#: A record as its source would take it now: its entity, the record, and why it cannot be bronze.
#: Raises UserError when the source has no such topic any more.
Placed = tuple[Entity, Record, str | None]
Place = Callable[[Record], Placed]


@dataclass(frozen=True)
class Selection:
    """Which records: all conditions that are given hold. `ids` empty: any."""

    ids: tuple[str, ...] = ()
    stream: str | None = None
    category: str | None = None
    status: str = "open"

    def where(self) -> tuple[str, list[Any]]:
        """A SQL condition and its parameters."""
        conditions, values = ["status = ?"], [self.status]
        for column, value in (("stream", self.stream), ("category", self.category)):
            if value is not None:
                conditions.append(f"{column} = ?")
                values.append(value)
        if self.ids:
            conditions.append(f"dlq_id in ({', '.join('?' * len(self.ids))})")
            values += self.ids
        return " and ".join(conditions), values


@dataclass
class Outcome:
    """What a replay did: records delivered, and those refused again with the reason."""

    delivered: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)


def by_topic(name: str, topics: Mapping[str, Entity]) -> Place:
    """How streams, webhooks and gateways place a record: by its topic, of which a device's begins
    with the endpoint."""

    def place(record: Record) -> Placed:
        entity = topics.get(record.topic.partition("/")[0])
        if entity is None:
            raise UserError(f"{name} no longer has the topic {record.topic}; discard its records.")
        return entity, record, None

    return place


def listing(
    lake: Lake | SparkLake, selection: Selection, limit: int
) -> tuple[list[Any], list[Any]]:
    """Counts by stream, table, category, status and reason; and the first `limit` records."""
    where, values = selection.where()
    with _reading(lake) as reader:
        counts = reader.query(
            "select stream, target_table, category, status, count(*), min(first_seen),"
            f" max(first_seen) from {DLQ} group by all order by all"
        )
        records = reader.query(
            f"select dlq_id, category, reason, attempts, first_seen from {DLQ} where {where}"
            f" order by first_seen, dlq_id limit {limit}",
            values,
        )
    return counts, records


def show(lake: Lake | SparkLake, dlq_id: str) -> dict[str, Any]:
    """Everything about one record. Raises UserError when there is none."""
    with _reading(lake) as reader:
        rows = reader.query(
            f"select {', '.join(DLQ_COLUMNS)} from {DLQ} where dlq_id = ? order by first_seen desc",
            [dlq_id],
        )
    if not rows:
        raise UserError(f"No record {dlq_id} in the DLQ: `lakebed dlq list` names them.")
    return dict(zip(DLQ_COLUMNS, rows[0], strict=True))


def replay(
    lake: Lake | SparkLake,
    source: str,
    entities: Sequence[Entity],
    place: Place,
    selection: Selection,
    patience: Patience,
    faults: Faults | None = None,
    force: bool = False,
) -> Outcome:
    """Judge records of a source again, by its present settings, and deliver those that pass.

    The others stay, with one attempt more and the present reason. `force` delivers what can be
    stored although it breaks the schema. Raises UserError for a record whose topic the source
    no longer has.
    """
    faults = faults or Faults()
    outcome, tried = Outcome(), set[Mark]()
    with open_sink(lake, source, entities, patience, faults, repeatable=False) as sink:
        while found := _untried(_records(sink, source, selection), tried):
            faults.reach("received")
            placed = [(*place(record), mark) for record, mark in found]
            good, rejected = judge(
                (_storable(entity) if force else entity, record)
                for entity, record, problem, _ in placed
                if problem is None
            )
            rejected += [
                Rejected(record, entity.table, "schema", problem)
                for entity, record, problem, _ in placed
                if problem is not None
            ]
            refused = {_place(each.record): each for each in rejected}
            marks = []
            for _, record, _, mark in placed:
                again = refused.get(_place(record))
                marks.append(
                    mark._replace(status="replayed")
                    if again is None
                    else mark._replace(category=again.category, reason=again.reason)
                )
            try:
                sink.write(good, [], {}, marks=marks)
            except Fenced:
                continue  # somebody else replays or discards them, or the stream was faster
            tried |= {mark._replace(attempts=mark.attempts + 1) for mark in marks}
            outcome.delivered += len(marks) - len(rejected)
            outcome.refused += [(m.dlq_id, m.reason) for m in marks if m.status == "open"]
    return outcome


def discard(lake: Lake | SparkLake, selection: Selection, patience: Patience) -> int:
    """Mark records as not wanted; their bytes stay until retention removes them. Their number."""
    where, values = selection.where()
    now = utc_now()
    with open_sink(lake, "dlq", [], patience) as sink:

        def attempt() -> int:
            if not sink.columns(DLQ):
                raise UserError(_NONE)
            sink.execute(
                f"update {DLQ} set status = 'discarded', resolved_at = ? where {where}",
                [now, *values],
            )
            # Of what was changed not each engine says how much it was.
            done = f"select count(*) from {DLQ} where status = 'discarded' and resolved_at = ?"
            return int(sink.query(done, [now])[0][0])

        return patience.persist(attempt)


def _place(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _untried(
    found: Sequence[tuple[Record, Mark]], tried: Collection[Mark]
) -> list[tuple[Record, Mark]]:
    """One record of each place: a topic that was made anew has had records at the same places."""
    return list({_place(r): (r, mark) for r, mark in found if mark not in tried}.values())


def _records(sink: BatchSink, source: str, selection: Selection) -> list[tuple[Record, Mark]]:
    """Records of a source, and the marks that leave them as they are."""
    where, values = selection.where()

    def ask() -> list[tuple[Any, ...]]:
        with sink.attached():
            return sink.query(
                "select dlq_id, first_seen, attempts, status, category, reason, topic, partition,"
                f" position, record_key, record_value, headers, sent_at from {DLQ}"
                f" where {where} and stream = ? order by topic, partition, position",
                [*values, source],
            )

    found = []
    for *mark, topic, partition, position, key, value, headers, sent_at in sink.patience.persist(
        ask
    ):
        sent = sent_at and int(sent_at.replace(tzinfo=timezone.utc).timestamp() * 1000)
        record = Record(topic, partition, position, key, value, _headers(headers), sent)
        found.append((record, Mark(*mark)))
    return found


def _headers(text: str | None) -> list[tuple[str, bytes | None]]:
    from base64 import b64decode

    def value(held: Any) -> bytes | None:
        if isinstance(held, dict):
            return b64decode(held["base64"])
        return None if held is None else str(held).encode()

    return [(name, value(held)) for name, held in json.loads(text or "[]")]


def _storable(entity: Entity) -> Entity:
    """The entity without its schema; what cannot be read still cannot."""
    decoder = entity.decoder and entity.decoder.lenient()
    return replace(entity, required=(), schema=None, check=None, decoder=decoder)


@contextmanager
def _reading(lake: Lake | SparkLake) -> Iterator[Reader]:
    with reading(lake) as reader:
        if not reader.columns(DLQ):
            raise UserError(_NONE)
        yield reader
