"""Records of people who were erased, as a stream, a webhook or a replay brings them again.

`lakebed erase run` leaves in `ops.erasure_rules` what the policy says of each table (no personal
data), and in `ops.erasures` the keyed hashes. The sink asks for both in the transaction that writes
a batch, so that nothing which is erased beside it slips through.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import duckdb

from lakebed.erase.hashing import KEY, Hasher, key_id, secret
from lakebed.errors import UserError

if TYPE_CHECKING:
    from lakebed.ingest.records import Record, Rejected
    from lakebed.ingest.sinks import Reader

RULES = "ops.erasure_rules"
#: What may stand around a key in a text that cannot be read; macros/engine/erase_streams.sql says
#: the same in SQL.
PARTS = re.compile(r"""[\[\],;|\s"'{}:<>=&\\]""")


@dataclass(frozen=True)
class _Rule:
    """The policy of one table: where the subject's key stands, and what becomes of the record."""

    hasher: Hasher
    hashes: frozenset[str]
    keys: Sequence[dict[str, str]]
    delete: bool
    patch: Any
    columns: dict[str, str | None]

    def erased(self, text: str) -> bool:
        return self.hasher.of(text) in self.hashes

    def apply(self, record: Record) -> Record | None:
        """The record as it may be stored; None when it must not be."""
        content, readable = _content(record.value)
        for key in self.keys:
            if key["name"] == "_key":
                found = _decoded(record.key)
            elif readable:
                found = _at(content, key["field"])
            else:
                found = None
                # As with malformed lines: nothing says which part is the key.
                if any(map(self.erased, _parts(_decoded(record.value)))):
                    return None
            if found is not None and self.erased(found):
                return None if self.delete else self._anonymised(record, readable)
        return record

    def _anonymised(self, record: Record, readable: bool) -> Record | None:
        if self.patch and not readable:
            return None
        if self.patch and record.value is not None:  # a tombstone stays one
            record = record._replace(value=_merged(_decoded(record.value), self.patch))
        if record.raw is not None:
            # Nothing can be changed in what was received; the JSON is what stays.
            record = record._replace(raw=None)
        if "_key" in self.columns:
            key = self.columns["_key"]
            record = record._replace(key=None if key is None else key.encode())
        return record._replace(headers=[]) if "_headers" in self.columns else record


def kept(reader: Reader, table: str, records: Sequence[Record]) -> list[Record]:
    """The records that may go to `table`, anonymised where its policy says so. `reader` is the lake
    as the writer of the batch sees it.

    Raises UserError when people were erased from it and the key to know them by is not set.
    """
    found = list(records)
    for rule in _rules(reader, table) if found else ():
        found = [new for record in found if (new := rule.apply(record)) is not None]
    return found


def kept_refused(reader: Reader, table: str, rejected: Sequence[Rejected]) -> list[Rejected]:
    """The refused records that may go to `table`: those in which no part is an erased key."""
    found = list(rejected)
    for rule in _rules(reader, table) if found else ():
        found = [each for each in found if not any(map(rule.erased, _texts(each)))]
    return found


def _rules(reader: Reader, table: str) -> list[_Rule]:
    if not reader.columns(RULES):
        return []  # nobody was ever erased
    found = []
    for subject, text in reader.query(
        f"select subject, rule from {RULES} where table_name = ?", [table]
    ):
        hashes = reader.query(
            "select subject_hash, key_id from ops.erasures where state = 'started' and subject = ?",
            [subject],
        )
        if hashes:
            rule = json.loads(text)
            key = secret()
            if any(other != key_id(key) for _, other in hashes):
                raise UserError(
                    f"subjects of kind '{subject}' were erased from this lake, and {KEY} is not "
                    "the key they were erased with: without it they would come back."
                )
            found.append(
                _Rule(
                    Hasher(key, subject, rule["data_type"]),
                    frozenset(each for each, _ in hashes),
                    rule["keys"],
                    rule["delete"],
                    rule["patch"],
                    rule["columns"],
                )
            )
    return found


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def _merged(text: str | None, patch: Any) -> bytes:
    """As for the rows that were there: by DuckDB, which leaves numbers as they are written."""
    merge = "select json_merge_patch(?, ?)"
    with _engine().cursor() as cursor:
        (merged,) = cursor.execute(merge, [text, json.dumps(patch)]).fetchone() or (None,)
    return str(merged).encode()


def _decoded(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "replace")


def _content(value: bytes | None) -> tuple[Any, bool]:
    """JSON with its numbers as they were written, and whether it is JSON; a tombstone is null.
    An object with a name twice is none: readers differ in which of the values they take."""
    text = b"null" if value is None else value
    try:
        return json.loads(text, parse_int=str, parse_float=str, object_pairs_hook=_object), True
    except (ValueError, RecursionError):
        return None, False


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name twice")
    return found


def _at(content: Any, path: str) -> str | None:
    for name in path.split("."):
        content = content.get(name) if isinstance(content, dict) else None
    if isinstance(content, bool):
        return str(content).lower()
    return content if isinstance(content, str) else None


def _parts(text: str | None) -> Iterator[str]:
    yield from filter(None, PARTS.split(text or ""))


def _counted(raw: bytes) -> Iterator[str]:
    """Whatever may be a text in Avro or Protobuf: its length in bytes stands before it."""
    for start in range(len(raw)):
        length, shift, at = 0, 0, start
        while at < len(raw) and shift < 21:
            length |= (raw[at] & 0x7F) << shift
            shift, at = shift + 7, at + 1
            if raw[at - 1] < 0x80:
                break
        # Avro writes twice the length.
        for size in {length, length >> 1 if length % 2 == 0 else 0} - {0}:
            if at + size <= len(raw):
                with suppress(UnicodeDecodeError):
                    yield raw[at : at + size].decode()


def _texts(each: Rejected) -> Iterator[str]:
    """Everything in a refused record that may be a key: parts of its text, and JSON's strings."""
    record = each.record
    headers = [value for _, value in record.headers]
    for raw in (record.key, record.value, *headers):
        if raw is not None:
            yield _decoded(raw) or ""
            yield from _parts(_decoded(raw))
    yield from _parts(each.reason)
    yield from _counted(record.key or b"")
    content, readable = _content(record.value)
    if not readable:
        yield from _counted(record.value or b"")
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, str):
            yield one
