"""Does a value stand anywhere in some folders? In bytes, names, and what is compressed in them."""

from __future__ import annotations

import contextlib
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from lakebed.errors import UserError

_CHUNK = 4 << 20


@dataclass(frozen=True, order=True)
class Trace:
    """Where a value was found; `how` says in which layer of the file."""

    path: str
    how: str


def scan(
    folders: Iterable[Path], values: Sequence[str], objects: Iterable[tuple[str, Path]] = ()
) -> tuple[int, list[Trace]]:
    """Number of files looked at, and the traces of any of `values`; `objects` are names of what is
    elsewhere, with copies to look into.

    Looks at names; at raw bytes as UTF-8 and UTF-16; inside gzip and the blocks of Avro; in every
    column, partition value and statistic of Parquet (pages are decompressed); in every table of
    DuckDB files. Raises UserError where Avro cannot be read.
    """
    needles = sorted({form for value in values if value for form in _forms(value)})
    found: set[Trace] = set()
    files = 0
    for folder in folders:
        for path in [folder] if folder.is_file() else sorted(folder.rglob("*")):
            if _named(path.name, values):
                found.add(Trace(str(path), "name"))
            if not path.is_file():
                continue
            files += 1
            found |= {Trace(str(path), how) for how in _traces(path, needles, values)}
    for name, copy in objects:
        files += 1
        found |= {Trace(name, "name")} if _named(name, values) else set()
        found |= {Trace(name, how) for how in _traces(copy, needles, values)}
    return files, sorted(found)


def _named(name: str, values: Sequence[str]) -> bool:
    return any(value in name or _percent(value) in name for value in values)


def _forms(value: str) -> Iterator[bytes]:
    yield value.encode()
    yield value.encode("utf-16-le")
    yield value.encode("utf-16-be")
    yield _percent(value).encode()
    yield json.dumps(value)[1:-1].encode()
    with contextlib.suppress(UnicodeEncodeError):
        yield value.encode("latin-1")


def _percent(value: str) -> str:
    from urllib.parse import quote

    return quote(value, safe="")


def _traces(path: Path, needles: Sequence[bytes], values: Sequence[str]) -> Iterator[str]:
    if _in_stream(_raw(path), needles):
        yield "bytes"
    with path.open("rb") as stream:
        head = stream.read(16)
    if head[:2] == b"\x1f\x8b" and _in_stream(_unzipped(path), needles):
        yield "inside gzip"
    if head[:4] == b"Obj\x01" and _in_stream(_avro(path), needles):
        yield "inside Avro"
    if head[:4] == b"PAR1" and in_tables([f"read_parquet('{_sql(path)}')"], values):
        yield "inside Parquet"
    if head[8:12] == b"DUCK":
        with duckdb.connect() as connection:
            connection.execute(f"attach '{_sql(path)}' as looked_at (read_only)")
            tables = connection.execute(
                "select 'looked_at.' || schema_name || '.\"' || table_name || '\"'"
                " from duckdb_tables() where database_name = 'looked_at'"
            ).fetchall()
            if in_tables([row[0] for row in tables], values, connection):
                yield "inside DuckDB"


def in_tables(
    tables: Sequence[str],
    values: Sequence[str],
    connection: duckdb.DuckDBPyConnection | None = None,
) -> bool:
    """Whether any row of any of `tables`, SQL to select from, has any of `values` in it."""
    ask = connection or duckdb.connect()
    condition = " or ".join(["contains(cast(t as varchar), ?)"] * len(values))
    return any(
        (
            ask.execute(f"select 1 from {table} as t where {condition} limit 1", list(values))
        ).fetchall()
        for table in tables
    )


def _in_stream(chunks: Iterator[bytes], needles: Sequence[bytes]) -> bool:
    overlap = max(map(len, needles), default=1) - 1
    tail = b""
    for chunk in chunks:
        block = tail + chunk
        if any(needle in block for needle in needles):
            return True
        tail = block[-overlap:] if overlap else b""
    return False


def _raw(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk


def _unzipped(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as stream:
        try:
            while chunk := stream.read(_CHUNK):
                yield chunk
        except (OSError, EOFError, zlib.error):
            return


def _avro(path: Path) -> Iterator[bytes]:
    """What Iceberg says of files, their smallest and largest values included."""
    try:
        from fastavro import block_reader
    except ImportError as error:
        raise UserError("To look into Avro files: pip install 'lakebed[spark]'.") from error
    with path.open("rb") as stream:
        try:
            for block in block_reader(stream):
                yield block.bytes_.getvalue()  # type: ignore[attr-defined]  # of the C class
        except (ValueError, EOFError, zlib.error):
            return  # a torn file, whose raw bytes were looked at


def _sql(path: Path) -> str:
    return str(path).replace("'", "''")
