"""Arrow tables as Spark takes them, and as bytes in a column."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import pyarrow as pa


def types(frame: Any) -> dict[str, str]:
    return {field.name: field.dataType.simpleString() for field in frame.schema.fields}


def zoned(table: pa.Table) -> pa.Table:
    """Moments as Spark's timestamps: without a zone they would be another type there."""
    utc = pa.timestamp("us", "UTC")
    fields = [f.with_type(utc) if pa.types.is_timestamp(f.type) else f for f in table.schema]
    return table.cast(pa.schema(fields))


def zoned_time(value: Any) -> Any:
    """A moment as Spark takes it: one without a zone would be of the machine's."""
    return value.replace(tzinfo=timezone.utc) if isinstance(value, datetime) else value


def plain(value: Any) -> Any:
    """A moment as DuckDB has it: UTC, without a zone."""
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(timezone.utc).replace(tzinfo=None)
    return value


def packed(tables: Mapping[str, pa.Table]) -> bytes:
    """Tables as bytes: Arrow in Arrow."""
    names, contents = list(tables), [_stream(table, "zstd") for table in tables.values()]
    whole = {"name": pa.array(names, pa.string()), "rows": pa.array(contents, pa.binary())}
    return _stream(pa.table(whole))


def _stream(table: pa.Table, compression: str | None = None) -> bytes:
    target = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(target, table.schema, options=options) as writer:
        writer.write_table(table)
    return target.getvalue().to_pybytes()  # type: ignore[no-any-return]


def unpacked(content: bytes | bytearray) -> dict[str, pa.Table]:
    whole = pa.ipc.open_stream(bytes(content)).read_all()
    return {
        name: pa.ipc.open_stream(rows).read_all()
        for name, rows in zip(whole["name"].to_pylist(), whole["rows"].to_pylist(), strict=True)
    }
