"""The tables that streams write: their columns, and records as rows of them, for every engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, NamedTuple

import pyarrow as pa

from lakebed.errors import UserError
from lakebed.ingest.records import DECODED, Entity, Record, Rejected, headers_json

PATTERNS = ["pat-dlq"]

DLQ = "ops.dlq"
DLQ_COLUMNS = {
    "dlq_id": "varchar",
    "stream": "varchar",
    "target_table": "varchar",
    "topic": "varchar",
    "partition": "integer",
    "position": "bigint",
    "record_key": "blob",
    "record_value": "blob",
    "headers": "varchar",
    "sent_at": "timestamp",
    "category": "varchar",
    "reason": "varchar",
    "attempts": "integer",
    "status": "varchar",
    "first_seen": "timestamp",
    "resolved_at": "timestamp",
}
BRONZE_COLUMNS = {
    "_source": "varchar",
    "_topic": "varchar",
    "_topic_partition": "integer",
    "_offset": "bigint",
    "_key": "varchar",
    "_record": "varchar",
    "_headers": "varchar",
    "_sent_at": "timestamp",
    "_batch_id": "bigint",
    "ingested_at": "timestamp",
}
#: More columns of what is decoded: what was received, and by which schema it was read.
DECODED_COLUMNS = {"_raw": "blob", "_schema_id": "varchar"}
_ARROW = {
    "varchar": pa.string(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "timestamp": pa.timestamp("us"),
    "blob": pa.binary(),
}


class Mark(NamedTuple):
    """What one more attempt made of a record of the DLQ: its new status, category and reason. It
    holds only for a record that is open and has had so many `attempts`."""

    dlq_id: str
    first_seen: datetime
    attempts: int
    status: str
    category: str
    reason: str


#: A batch of marks in the DLQ. A second time it changes nothing: the attempts are others then.
MARK = """
    merge into {dlq} as held using {marks} as mark
    on held.dlq_id = mark.dlq_id and held.first_seen = mark.first_seen
        and held.attempts = mark.attempts
    when matched then update set
        status = mark.status, category = mark.category, reason = mark.reason,
        attempts = mark.attempts + 1, resolved_at = mark.resolved_at
"""


def utc_now() -> datetime:
    """Now, in UTC, without a zone: as the lake's timestamps are."""
    return datetime.now(timezone.utc).replace(tzinfo=None)


def bronze_columns(entity: Entity) -> dict[str, str]:
    """Columns and types of an entity's bronze table."""
    more = DECODED_COLUMNS if entity.value in DECODED else {}
    if entity.value == "json" and entity.decoder is not None:
        # What was received is the id, and then the record.
        more = {"_schema_id": "varchar"}
    return {
        **BRONZE_COLUMNS,
        "_key": "blob" if entity.key == "bytes" else "varchar",
        "_record": "blob" if entity.value == "bytes" else "varchar",
        **more,
    }


def new_columns(table: str, there: Mapping[str, str], fresh: Mapping[str, str]) -> dict[str, str]:
    """The columns of `fresh` that a table has not. Raises UserError for one of another type, and
    for one whose name differs in case: to both engines it is the same."""
    known = {name.lower(): name for name in there}
    for name, kind in fresh.items():
        if (held := known.get(name.lower(), name)) != name:
            raise UserError(f"{name} is {held} in {table}: bring it under that name.")
        if there.get(name, kind) != kind:
            raise UserError(
                f"{name} is {kind} now, and {there[name]} in {table}: bring it under another "
                "name, or change that table."
            )
    return {name: kind for name, kind in fresh.items() if name not in there}


def batch_key(table: str, rows: pa.Table) -> tuple[str, ...]:
    """The columns of which each batch has values of its own, the same in all of its rows."""
    if table == DLQ:
        return ("stream", "first_seen")
    return ("region" if "_region_batch_id" in rows.column_names else "_source", "_batch_id")


def with_batch(rows: pa.Table, batch: int) -> pa.Table:
    """Rows with the batch that brings them."""
    return rows.append_column("_batch_id", pa.array([batch] * rows.num_rows, pa.int64()))


def bronze_rows(
    stream: str, entity: Entity, records: Sequence[Record], batch: int, now: datetime
) -> pa.Table:
    """Records as rows of their bronze table."""
    count = len(records)
    return _arrow(
        bronze_columns(entity),
        {
            "_source": _same("varchar", stream, count),
            "_topic": [record.topic for record in records],
            "_topic_partition": [record.partition for record in records],
            "_offset": [record.offset for record in records],
            "_key": [record.key for record in records],
            "_record": [record.value for record in records],
            "_raw": [record.raw for record in records],
            "_schema_id": [record.schema_id for record in records],
            "_headers": [headers_json(record.headers) for record in records],
            "_sent_at": _moments(record.sent_at for record in records),
            "_batch_id": _same("bigint", batch, count),
            "ingested_at": _same("timestamp", now, count),
        },
    )


def dlq_rows(stream: str, rejected: Sequence[Rejected], now: datetime) -> pa.Table:
    """Refused records as rows of the DLQ."""
    count = len(rejected)
    records = [each.record for each in rejected]
    return _arrow(
        DLQ_COLUMNS,
        {
            "dlq_id": [f"{stream}:{r.topic}:{r.partition}:{r.offset}" for r in records],
            "stream": [stream] * count,
            "target_table": [each.table for each in rejected],
            "topic": [record.topic for record in records],
            "partition": [record.partition for record in records],
            "position": [record.offset for record in records],
            "record_key": [record.key for record in records],
            "record_value": [record.value for record in records],
            "headers": [headers_json(record.headers) for record in records],
            "sent_at": _moments(record.sent_at for record in records),
            "category": [each.category for each in rejected],
            "reason": [each.reason for each in rejected],
            "attempts": [1] * count,
            "status": ["open"] * count,
            "first_seen": [now] * count,
            "resolved_at": [None] * count,
        },
    )


def mark_rows(marks: Sequence[Mark], now: datetime) -> pa.Table:
    """Marks as a table."""
    columns = ["dlq_id", "first_seen", "attempts", "status", "category", "reason", "resolved_at"]
    rows = [(*mark, None if mark.status == "open" else now) for mark in marks]
    values = dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True))
    return _arrow({name: DLQ_COLUMNS[name] for name in columns}, values)


def still_open(query: Any, marks: Iterable[Mark]) -> bool:
    """Whether records of the DLQ are as they were when somebody looked at them."""
    expected = {(mark.dlq_id, mark.first_seen, mark.attempts) for mark in marks}
    if not expected:
        return True
    found = query(
        f"select dlq_id, first_seen, attempts from {DLQ}"
        " where status = 'open' and array_contains(?, dlq_id)",
        [sorted(dlq_id for dlq_id, _, _ in expected)],
    )
    return expected <= set(found)


def _arrow(columns: Mapping[str, str], values: Mapping[str, list[Any] | pa.Array]) -> pa.Table:
    return pa.table({name: pa.array(values[name], _ARROW[kind]) for name, kind in columns.items()})


def _same(kind: str, value: Any, count: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, _ARROW[kind]), count)


#: Milliseconds since 1970 of the first and the last moment of a calendar.
_FIRST, _LAST = -62_135_596_800_000, 253_402_300_799_999


def _moments(milliseconds: Iterable[int | None]) -> pa.Array:
    """UTC without a zone. A time that no calendar has (a broken clock) is null."""
    times = [t if t is not None and _FIRST <= t <= _LAST else None for t in milliseconds]
    return pa.array(times, pa.timestamp("ms")).cast(_ARROW["timestamp"])
