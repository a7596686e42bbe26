"""Avro to JSON: what was written, as text that every engine reads, and nothing rounded.

fastavro reads; what a value becomes is said by logical types of our own, which stand in the schema
in place of Avro's. Its readers for Avro's own round decimals to their precision, and give objects
that JSON does not have.
"""

from __future__ import annotations

import io
import json
import struct
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from fastavro import _read_py, parse_schema, schemaless_reader
from fastavro.read import LOGICAL_READERS
from fastavro.schema import fingerprint, to_parsing_canonical_form

from lakebed.errors import UserError
from lakebed.ingest.records import Decoder, Record, SchemaError, Unreadable

PATTERNS = ["pat-streaming-ingest"]

#: Starts a single-object encoding; eight bytes of the schema's fingerprint follow.
SINGLE_OBJECT = b"\xc3\x01"
_NAMED = ("record", "error", "enum", "fixed")
_PRIMITIVE = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
_SUB = {"millis": 3, "micros": 6, "nanos": 9}  # digits after the second


class AvroSchema:
    """A writer's schema, ready to read its records. Raises SchemaError when it is none.

    `others` are the texts of the schemas that it names, those first that others name.
    """

    def __init__(self, text: str, others: Sequence[str] = ()) -> None:
        try:
            named: dict[str, Any] = {}
            for other in others:
                parse_schema(_readable(json.loads(other)), named_schemas=named)
            self._source: Any = json.loads(text)
            # A record is its fields, one after the other: one around a union, or around a
            # schema that only names another, changes no byte.
            root = {"name": "value", "type": _readable(self._source)}
            outer = {"type": "record", "name": "lakebed_root", "fields": [root]}
            parsed: Any = parse_schema(outer, named_schemas=named)
            everything: dict[str, Any] = parsed["__named_schemas"]
            _refuse_endless(everything)
            # fastavro's reader in C ends the process when records are nested too deeply.
            nested = any(_names_itself(each, everything) for each in everything)
        except RecursionError:
            raise SchemaError("the schema is nested too deeply") from None
        except SchemaError:
            raise
        except Exception as error:
            raise SchemaError(f"not an Avro schema ({_told(error)})") from error
        self._schema = parsed
        self._read: Callable[..., Any] = _read_py.schemaless_reader if nested else schemaless_reader

    @property
    def is_bytes(self) -> bool:
        """Whether it is no more than bytes, which a registry's clients write without a length."""
        return self._source in ("bytes", {"type": "bytes"})

    def fingerprint(self) -> bytes:
        """As a single-object encoding has it."""
        text = to_parsing_canonical_form(parse_schema(self._source))
        return bytes.fromhex(fingerprint(text, "CRC-64-AVRO"))

    def read(self, data: bytes) -> Any:
        """The value in `data`, of what JSON has. Raises Unreadable."""
        stream = io.BytesIO(data)
        try:
            value = self._read(stream, self._schema, None)["value"]
        except RecursionError:
            raise Unreadable("nested too deeply") from None
        except Exception as error:
            raise Unreadable(f"not Avro of its schema ({_told(error)})") from error
        if left := len(data) - stream.tell():
            raise Unreadable(f"not Avro of its schema ({left:,} bytes more than it has)")
        return value


@dataclass(frozen=True)
class PlainAvro(Decoder):
    """Records without a registry: of the one schema, or those whose fingerprint each begins with
    (`single_object`)."""

    schemas: dict[bytes, AvroSchema] = field(hash=False)
    single_object: bool = False

    def decode(self, record: Record) -> tuple[Record, Any]:
        raw = record.value or b""
        if not self.single_object:
            (schema,) = self.schemas.values()
            return as_json(record, schema.read(raw), None)
        if len(raw) < 10 or not raw.startswith(SINGLE_OBJECT):
            raise Unreadable("not a single-object encoding: it begins with C3 01 and a fingerprint")
        name = raw[2:10]
        if name not in self.schemas:
            raise SchemaError(f"no schema of the file has the fingerprint {name.hex()}")
        return as_json(record, self.schemas[name].read(raw[10:]), name.hex())


def read_schemas(files: Sequence[Path], single_object: bool, where: str) -> PlainAvro:
    """Schemas of files. Raises UserError."""
    found = {}
    for file in files:
        try:
            schema = AvroSchema(file.read_text(encoding="utf-8"))
            found[schema.fingerprint()] = schema
        except (OSError, UnicodeError, SchemaError) as error:
            raise UserError(f"{where}: {file}: {error}.") from error
    if len(found) > 1 and not single_object:
        raise UserError(
            f"{where}: several schemas need encoding: single-object, where each record says which "
            "one it has."
        )
    return PlainAvro(found, single_object)


def as_json(record: Record, content: Any, schema_id: str | None) -> tuple[Record, Any]:
    """A record with its value as JSON, and that value. Raises Unreadable."""
    try:
        text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        value = text.encode()
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"cannot be JSON ({_told(error)})") from error
    return record._replace(value=value, raw=record.value, schema_id=schema_id), content


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


# --- what a value becomes --------------------------------------------------------------------


def _readable(schema: Any) -> Any:
    """The schema with our logical types, and without what reading does not need."""
    if isinstance(schema, list):
        return [_readable(each) for each in schema]
    if isinstance(schema, str):
        return _readable({"type": schema}) if schema in ("bytes", "float", "double") else schema
    kind = schema["type"]
    if not isinstance(kind, str):
        return _readable(kind)
    if kind in ("record", "error"):
        fields = [{"name": f["name"], "type": _readable(f["type"])} for f in schema["fields"]]
        return _kept(schema, "name", "namespace") | {"type": "record", "fields": fields}
    if kind == "array":
        return {"type": kind, "items": _readable(schema["items"])}
    if kind == "map":
        return {"type": kind, "values": _readable(schema["values"])}
    if kind == "enum":
        return _kept(schema, "type", "name", "namespace", "symbols")
    if kind not in (*_PRIMITIVE, "fixed"):
        return kind  # the name of another
    plain = _kept(schema, "type", "name", "namespace", "size")
    meaning = _meaning(schema)
    return plain | {"logicalType": meaning} if meaning else plain


def _kept(schema: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: schema[key] for key in keys if key in schema}


def _meaning(schema: dict[str, Any]) -> str | None:
    """The name of our logical type; Avro's rules say that one that does not fit is ignored."""
    kind, logical = schema["type"], schema.get("logicalType")
    if kind in ("float", "double"):
        return "lakebed-number"
    if kind in ("bytes", "fixed"):
        scale, precision = schema.get("scale", 0), schema.get("precision")
        if logical == "decimal" and isinstance(scale, int) and isinstance(precision, int):
            if 0 <= scale <= precision and precision > 0:
                return _decimal(scale, kind)
        elif kind == "fixed" and (logical, schema["size"]) in (("duration", 12), ("uuid", 16)):
            return f"lakebed-{logical}"
        return "lakebed-base64"
    return f"lakebed-{logical}" if f"{kind}-lakebed-{logical}" in LOGICAL_READERS else None


def _decimal(scale: int, kind: str) -> str:
    """The logical type of decimals of one scale: readers are not told the schema of a name."""
    name = f"lakebed-decimal-{scale}"

    def read(data: bytes, _writer: Any = None, _reader: Any = None) -> str:
        number = int.from_bytes(data, "big", signed=True)
        digits = str(abs(number)).zfill(scale + 1)
        whole, part = digits[: len(digits) - scale], digits[len(digits) - scale :]
        return ("-" if number < 0 else "") + whole + ("." + part if part else "")

    LOGICAL_READERS[f"{kind}-{name}"] = read
    return name


def _base64(data: bytes, _writer: Any = None, _reader: Any = None) -> str:
    return b64encode(data).decode()


def _number(data: float, _writer: Any = None, _reader: Any = None) -> float | str:
    """As in Protobuf's JSON: what JSON has no number for is text."""
    if data != data:
        return "NaN"
    if data in (float("inf"), float("-inf")):
        return "Infinity" if data > 0 else "-Infinity"
    return data


def _uuid(data: bytes, _writer: Any = None, _reader: Any = None) -> str:
    return str(UUID(bytes=bytes(data)))


def _duration(data: bytes, _writer: Any = None, _reader: Any = None) -> str:
    months, days, millis = struct.unpack("<III", data)
    return f"P{months}M{days}DT{millis // 1000}.{millis % 1000:03d}S"


def _date(data: int, _writer: Any = None, _reader: Any = None) -> str:
    return (date(1970, 1, 1) + timedelta(days=data)).isoformat()


def _moment(digits: int, zone: str) -> Callable[..., str]:
    def read(data: int, _writer: Any = None, _reader: Any = None) -> str:
        seconds, part = divmod(data, 10**digits)
        moment = datetime(1970, 1, 1) + timedelta(seconds=seconds)
        return f"{moment.isoformat()}.{part:0{digits}d}{zone}"

    return read


def _time(digits: int) -> Callable[..., str]:
    def read(data: int, _writer: Any = None, _reader: Any = None) -> str:
        seconds, part = divmod(data, 10**digits)
        hours, minutes = divmod(seconds // 60, 60)
        return f"{time(hours, minutes, seconds % 60).isoformat()}.{part:0{digits}d}"

    return read


LOGICAL_READERS |= {
    "bytes-lakebed-base64": _base64,
    "fixed-lakebed-base64": _base64,
    "fixed-lakebed-uuid": _uuid,
    "fixed-lakebed-duration": _duration,
    "float-lakebed-number": _number,
    "double-lakebed-number": _number,
    "int-lakebed-date": _date,
    "int-lakebed-time-millis": _time(3),
    "long-lakebed-time-micros": _time(6),
}
for _name, _digits in _SUB.items():
    LOGICAL_READERS[f"long-lakebed-timestamp-{_name}"] = _moment(_digits, "Z")
    LOGICAL_READERS[f"long-lakebed-local-timestamp-{_name}"] = _moment(_digits, "")


# --- what would not end ----------------------------------------------------------------------


def _parts(schema: Any) -> list[Any]:
    """The schemas directly in one."""
    if isinstance(schema, list):
        return schema
    if isinstance(schema, dict):
        kind = schema["type"]
        if kind == "record":
            return [each["type"] for each in schema["fields"]]
        if kind in ("array", "map"):
            return [schema["items" if kind == "array" else "values"]]
    return []


def _names_itself(name: str, named: dict[str, Any]) -> bool:
    """Whether a value of the type may have another of it inside."""
    seen: set[str] = set()
    waiting = _parts(named[name])[:]
    while waiting:
        one = waiting.pop()
        one = one["name"] if isinstance(one, dict) and one["type"] in _NAMED else one
        if isinstance(one, str) and one in named:
            if one == name:
                return True
            if one not in seen:
                seen.add(one)
                waiting += _parts(named[one])
        else:
            waiting += _parts(one)
    return False


def _refuse_endless(named: dict[str, Any]) -> None:
    """Raises SchemaError for arrays of what takes no bytes: a few can say that there are 2^60."""
    waiting = list(named.values())
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict) and one["type"] == "array" and _takes_nothing(one["items"], named):
            raise SchemaError("the schema has an array of what takes no bytes, which has no end")
        waiting += _parts(one)


def _takes_nothing(
    schema: Any, named: dict[str, Any], inside: frozenset[str] = frozenset()
) -> bool:
    if isinstance(schema, str) and schema in named:
        if schema in inside:
            return True
        inside |= {schema}
        schema = named[schema]
    if isinstance(schema, dict):
        if schema["type"] == "record":
            return all(_takes_nothing(each, named, inside) for each in _parts(schema))
        if schema["type"] == "fixed":
            return bool(schema["size"] <= 0)
        schema = schema["type"]
    return bool(schema == "null")
