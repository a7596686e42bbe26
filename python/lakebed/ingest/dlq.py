"""`lakebed dlq`: look at what was refused, deliver it after a fix, or let it go.

A replay writes the row of bronze, and marks the record of the DLQ, in one transaction that is
fenced as the stream's own are: killed anywhere, or run twice at once, it delivers once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb

from lakebed.errors import UserError
from lakebed.ingest.faults import Faults
from lakebed.ingest.patience import Patience
from lakebed.ingest.records import Entity, Record, Rejected, judge
from lakebed.ingest.sink import DLQ, Sink, columns_of, insert_rows, utc_now
from lakebed.project import Lake

PATTERNS = ["pat-dlq"]

STATUSES = ("open", "replayed", "discarded")

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


def listing(lake: Lake, selection: Selection, limit: int) -> tuple[list[Any], list[Any]]:
    """Counts by stream, table, category, status and reason; and the first `limit` records."""
    where, values = selection.where()
    with _reading(lake) as connection:
        counts = connection.execute(
            "select stream, target_table, category, status, count(*), min(first_seen),"
            f" max(first_seen) from {DLQ} group by all order by all"
        ).fetchall()
        records = connection.execute(
            f"select dlq_id, category, reason, attempts, first_seen from {DLQ} where {where}"
            f" order by first_seen, dlq_id limit {limit}",
            values,
        ).fetchall()
    return counts, records


def show(lake: Lake, dlq_id: str) -> dict[str, Any]:
    """Everything about one record. Raises UserError when there is none."""
    with _reading(lake) as connection:
        cursor = connection.execute(f"select * from {DLQ} where dlq_id = ?", [dlq_id])
        names = [column[0] for column in cursor.description or []]
        row = cursor.fetchone()
    if row is None:
        raise UserError(f"No record {dlq_id} in the DLQ: `lakebed dlq list` names them.")
    return dict(zip(names, row, strict=True))


def replay(
    lake: Lake,
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
    with Sink(lake, source, entities, patience, faults) as sink:

        def attempt() -> Outcome:
            with sink.attached() as connection, sink.transaction(connection):
                batch = sink.next_batch(connection)
                faults.reach("begun")
                found = [(*place(r), name) for r, name in _records(connection, source, selection)]
                names = {(r.topic, r.partition, r.offset): name for _, r, _, name in found}
                good, rejected = judge(
                    (_storable(entity) if force else entity, record)
                    for entity, record, problem, _ in found
                    if problem is None
                )
                rejected += [
                    Rejected(record, entity.table, "schema", problem)
                    for entity, record, problem, _ in found
                    if problem is not None
                ]
                now = utc_now()
                for entity, records in good.items():
                    insert_rows(connection, source, entity, records, batch, now)
                faults.reach("rows-written")
                delivered = [
                    names[r.topic, r.partition, r.offset] for rows in good.values() for r in rows
                ]
                refused = [
                    (names[e.record.topic, e.record.partition, e.record.offset], e)
                    for e in rejected
                ]
                _mark(connection, delivered, "replayed")
                for name, each in refused:
                    connection.execute(
                        f"update {DLQ} set attempts = attempts + 1, category = ?, reason = ?"
                        " where dlq_id = ?",
                        [each.category, each.reason, name],
                    )
                faults.reach("dlq-written")
            return Outcome(len(delivered), [(name, each.reason) for name, each in refused])

        outcome = patience.persist(attempt)
    faults.reach("committed")
    return outcome


def discard(lake: Lake, selection: Selection, patience: Patience) -> int:
    """Mark records as not wanted; their bytes stay until retention removes them. Their number."""
    where, values = selection.where()
    with Sink(lake, "dlq", [], patience) as sink:

        def attempt() -> int:
            with sink.attached() as connection, sink.transaction(connection):
                found = connection.execute(f"select dlq_id from {DLQ} where {where}", values)
                names = [name for (name,) in found.fetchall()]
                _mark(connection, names, "discarded")
            return len(names)

        return patience.persist(attempt)


def _records(
    connection: duckdb.DuckDBPyConnection, source: str, selection: Selection
) -> list[tuple[Record, str]]:
    where, values = selection.where()
    rows = connection.execute(
        "select dlq_id, topic, partition, position, record_key, record_value, headers,"
        f" epoch_ms(sent_at) from {DLQ} where {where} and stream = ?"
        " order by topic, partition, position",
        [*values, source],
    ).fetchall()
    return [
        (Record(topic, partition, position, key, value, _headers(headers), sent_at), name)
        for name, topic, partition, position, key, value, headers, sent_at in rows
    ]


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


def _mark(connection: duckdb.DuckDBPyConnection, names: Sequence[str], status: str) -> None:
    if names:
        connection.execute(
            f"update {DLQ} set status = ?, attempts = attempts + ?, resolved_at = ?"
            " where list_contains(?, dlq_id)",
            [status, int(status == "replayed"), utc_now(), list(names)],
        )


@contextmanager
def _reading(lake: Lake) -> Any:
    with lake.connect() as connection:
        if not columns_of(connection, DLQ):
            raise UserError("There is no DLQ yet: `lakebed stream` or `lakebed webhook` makes it.")
        yield connection
