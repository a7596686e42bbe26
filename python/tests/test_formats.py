"""Avro and Protobuf as JSON: every value of every type, by an oracle of their own; and poison."""

from __future__ import annotations

import io
import itertools
import json
import math
import struct
from base64 import b64encode
from datetime import date, datetime, timedelta, timezone
from decimal import Context, Decimal
from typing import Any
from uuid import UUID

import pytest
from fastavro import parse_schema, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st
from lakebed.ingest.avro import SINGLE_OBJECT, AvroSchema, PlainAvro, as_json
from lakebed.ingest.protobuf import PlainProtobuf, ProtobufSchema
from lakebed.ingest.records import Entity, Record, Rejected, SchemaError, Unreadable
from lakebed.ingest.tables import bronze_rows, utc_now
from messages import ORDER, descriptors, message_class

PROVES = ["pat-streaming-ingest"]

LONG = st.integers(-(2**63), 2**63 - 1)
INT = st.integers(-(2**31), 2**31 - 1)
#: Of named types: no two in a schema are equal.
NAMES = itertools.count()
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def record(value: bytes | None) -> Record:
    return Record("t", 0, 0, None, value, [], None)


def written(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), value)
    return out.getvalue()


# --- Avro: a schema with logical types, the same without, a value of that, and the JSON it is ---


def number(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    return value if math.isfinite(value) else ("Infinity" if value > 0 else "-Infinity")


def plain(kind: str, values: st.SearchStrategy[Any], say: Any = lambda value: value) -> Any:
    return values.map(lambda value: (kind, kind, value, say(value)))


def logical(kind: str, name: str, values: st.SearchStrategy[Any], say: Any) -> Any:
    schema = {"type": kind, "logicalType": name}
    return values.map(lambda value: (schema, kind, value, say(value)))


def instant(unit: timedelta, digits: int, zone: str) -> Any:
    def say(value: int) -> str:
        moment = EPOCH + value * unit
        text = moment.strftime("%Y-%m-%dT%H:%M:%S.%f").rjust(26, "0")
        return text[: 20 + digits] + zone

    return say


def moments(per_second: int) -> st.SearchStrategy[int]:
    first, last = (
        (date(1, 1, 1) - date(1970, 1, 1)).days,
        (date(9999, 12, 31) - date(1970, 1, 1)).days,
    )
    return st.integers(first * 86400 * per_second, (last + 1) * 86400 * per_second - 1)


def nanos(value: int) -> str:
    moment = EPOCH + timedelta(seconds=value // 10**9)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{value % 10**9:09d}Z"


def clock(digits: int) -> Any:
    def say(value: int) -> str:
        part = 10**digits
        moment = EPOCH + timedelta(seconds=value // part)
        return f"{moment:%H:%M:%S}.{value % part:0{digits}d}"

    return say


@st.composite
def decimals(draw: Any) -> Any:
    """Also wider than their precision says: nothing is rounded."""
    precision = draw(st.integers(1, 40))
    scale = draw(st.integers(0, precision))
    unscaled = draw(st.integers(-(10**60), 10**60))
    size = (unscaled.bit_length() + 8) // 8
    raw = unscaled.to_bytes(size, "big", signed=True)
    kind: dict[str, Any] = {"type": "bytes"}
    if draw(st.booleans()):
        name = f"d{next(NAMES)}"
        kind = {"type": "fixed", "name": name, "size": size}
    exact = Decimal(unscaled).scaleb(-scale, Context(prec=100, Emax=999, Emin=-999))
    schema = kind | {"logicalType": "decimal", "precision": precision, "scale": scale}
    return schema, kind, raw, f"{exact:f}"


@st.composite
def fixed(draw: Any) -> Any:
    raw = draw(st.binary(min_size=16, max_size=16))
    kind = {"type": "fixed", "name": f"f{next(NAMES)}", "size": 16}
    if draw(st.booleans()):
        return kind | {"logicalType": "uuid"}, kind, raw, str(UUID(raw.hex()))
    return kind, kind, raw, b64encode(raw).decode()


@st.composite
def enums(draw: Any) -> Any:
    symbols = draw(
        st.lists(
            st.from_regex(r"[A-Z][a-z0-9_]{0,5}", fullmatch=True),
            min_size=1,
            max_size=4,
            unique=True,
        )
    )
    kind = {"type": "enum", "name": f"e{next(NAMES)}", "symbols": symbols}
    value = draw(st.sampled_from(symbols))
    return kind, kind, value, value


DAYS = st.dates().map(lambda day: (day - date(1970, 1, 1)).days)
LEAVES = st.one_of(
    plain("null", st.none()),
    plain("boolean", st.booleans()),
    plain("int", INT),
    plain("long", LONG),
    plain("float", st.floats(width=32), number),
    plain("double", st.floats(), number),
    plain("string", st.text()),
    plain("bytes", st.binary(), lambda raw: b64encode(raw).decode()),
    decimals(),
    fixed(),
    enums(),
    logical("string", "uuid", st.uuids().map(str), str),
    logical("long", "timestamp-millis", moments(1000), instant(timedelta(milliseconds=1), 3, "Z")),
    logical("long", "timestamp-micros", moments(10**6), instant(timedelta(microseconds=1), 6, "Z")),
    logical("long", "timestamp-nanos", LONG, nanos),
    logical(
        "long", "local-timestamp-millis", moments(1000), instant(timedelta(milliseconds=1), 3, "")
    ),
    logical("int", "date", DAYS, lambda days: str(date(1970, 1, 1) + timedelta(days=days))),
    logical("int", "time-millis", st.integers(0, 86_399_999), clock(3)),
    logical("long", "time-micros", st.integers(0, 86_399_999_999), clock(6)),
    # What Avro does not know is what it is made of.
    logical("long", "fathoms", LONG, int),
    logical("string", "timestamp-millis", st.text(), str),
)  # fmt: skip


@st.composite
def nested(draw: Any, inner: Any) -> Any:
    kind = draw(st.sampled_from(["array", "map", "record", "union"]))
    if kind == "record":
        parts = [("int", "int", 1, 1), *draw(st.lists(inner, max_size=4))]
        name = f"r{next(NAMES)}"

        def of(index: int) -> list[Any]:
            return [{"name": f"f{at}", "type": part[index]} for at, part in enumerate(parts)]

        schemas = [{"type": "record", "name": name, "fields": of(index)} for index in (0, 1)]
        values = [{f"f{at}": part[index] for at, part in enumerate(parts)} for index in (2, 3)]
        return *schemas, *values
    schema, base, value, expected = draw(inner)
    if kind == "union":
        if isinstance(schema, list) or base == "null":
            return schema, base, value, expected
        null = draw(st.booleans())
        return ["null", schema], ["null", base], None if null else value, None if null else expected
    if kind == "array":
        if base == "null":
            return schema, base, value, expected
        count = draw(st.integers(0, 3))
        both = [{"type": kind, "items": each} for each in (schema, base)]
        return *both, [value] * count, [expected] * count
    keys = draw(st.lists(st.text(), max_size=3, unique=True))
    return (
        {"type": kind, "values": schema},
        {"type": kind, "values": base},
        dict.fromkeys(keys, value),
        dict.fromkeys(keys, expected),
    )


def same(found: Any, expected: Any) -> bool:
    """Equal, and of the same types: 1 is not 1.0, nor True."""
    return repr(found) == repr(expected)


@given(st.recursive(LEAVES, nested, max_leaves=8))
@settings(max_examples=400, deadline=None)
def test_avro_is_what_was_written(case: Any) -> None:
    schema, base, value, expected = case
    raw = written(base, value)
    decoder = PlainAvro({b"": AvroSchema(json.dumps(schema))})
    found, content = decoder.decode(record(raw))
    assert same(content, expected)
    assert same(json.loads(found.value or b""), expected)
    assert (found.raw, found.received.value) == (raw, raw)


@given(decimals())
@settings(max_examples=100, deadline=None)
def test_decimals_lose_nothing(case: Any) -> None:
    schema, base, value, expected = case
    assert AvroSchema(json.dumps(schema)).read(written(base, value)) == expected


LINKED = {
    "type": "record", "name": "shop.Node", "fields": [
        {"name": "amount", "type": {"type": "bytes", "logicalType": "decimal", "precision": 3}},
        {"name": "next", "type": ["null", "Node"]},
    ],
}  # fmt: skip


def test_what_fastavro_cannot_survive_is_refused() -> None:
    # A list of 300,000 ends fastavro's reader in C with a signal.
    entity = Entity("a", "avro", decoder=PlainAvro({b"": AvroSchema(json.dumps(LINKED))}))
    short = b"\x02\x07\x02" * 20 + b"\x02\x07\x00"
    good = entity.judge(record(short))
    assert isinstance(good, Record)
    assert json.loads(good.value or b"")["next"]["next"]["amount"] == "7"
    deep = entity.judge(record(b"\x02\x07\x02" * 300_000 + b"\x02\x07\x00"))
    assert isinstance(deep, Rejected)
    assert (deep.category, deep.reason) == ("malformed", "nested too deeply")
    assert deep.record.value is not None
    # One that has itself inside without an end, and arrays of nothing: ten bytes, 2^60 of it.
    endless = {"type": "record", "name": "n", "fields": [{"name": "n", "type": "n"}]}
    with pytest.raises(Unreadable, match="nested too deeply"):
        AvroSchema(json.dumps(endless)).read(b"")
    empty = {"type": "record", "name": "e", "fields": [{"name": "n", "type": "null"}]}
    for items in ("null", {"type": "fixed", "name": "f", "size": 0}, empty):
        with pytest.raises(SchemaError, match="no end"):
            AvroSchema(json.dumps({"type": "array", "items": items}))
    with pytest.raises(Unreadable, match="1 bytes more"):
        AvroSchema('"int"').read(b"\x02\x02")


@pytest.mark.parametrize(
    "text", ["", "{", '"x"', '{"type": "record"}', "[" * 100_000, '{"type": 5}', "null"]
)
def test_no_schema(text: str) -> None:
    with pytest.raises(SchemaError):
        AvroSchema(text)


def test_single_objects_say_which_schema() -> None:
    old, new = (
        {"type": "record", "name": "o", "fields": [{"name": n, "type": "int"} for n in names]}
        for names in ("a", "ab")
    )
    schemas = {s.fingerprint(): s for s in (AvroSchema(json.dumps(each)) for each in (old, new))}
    decoder = PlainAvro(schemas, single_object=True)
    # The specification's own: CRC-64-AVRO of "int" is 0x7275d51a3f395c8f, little end first.
    assert AvroSchema('"int"').fingerprint() == struct.pack("<Q", 0x7275D51A3F395C8F)
    for (name, schema), value in zip(schemas.items(), ({"a": 1}, {"a": 1, "b": 2}), strict=True):
        body = SINGLE_OBJECT + name + written(schema._source, value)
        found, content = decoder.decode(record(body))
        assert (content, found.schema_id, found.raw) == (value, name.hex(), body)
    with pytest.raises(SchemaError, match="fingerprint 0000"):
        decoder.decode(record(SINGLE_OBJECT + bytes(8)))
    with pytest.raises(Unreadable, match="not a single-object"):
        decoder.decode(record(b"\xc3\x01"))


# --- Protobuf ----------------------------------------------------------------------------------

CLASS = message_class(ORDER)
SCHEMA = ProtobufSchema(descriptors())
MONEY = st.integers(-(2**63), 2**63 - 1)


@st.composite
def orders(draw: Any) -> tuple[Any, dict[str, Any]]:
    """A message, and the JSON that it is; by Protobuf's specification, not by its code."""
    order = CLASS()
    text, amount = draw(st.text()), draw(MONEY)
    order.id, order.amount = text, amount
    expected: dict[str, Any] = {"id": text, "amount": str(amount), "state": "UNKNOWN"}
    state = draw(st.sampled_from([0, 1, 7]))
    order.state = state
    expected["state"] = {0: "UNKNOWN", 1: "PAID", 7: 7}[state]
    raw = draw(st.binary())
    order.raw = raw
    expected["raw"] = b64encode(raw).decode()
    price = draw(st.floats())
    order.price = price
    expected["price"] = number(price)
    counts = draw(st.dictionaries(st.text(), INT, max_size=3))
    for key, value in counts.items():
        order.counts[key] = value
    expected["counts"] = counts
    expected["lines"] = []
    for sku in draw(st.lists(st.text(), max_size=3)):
        order.lines.add(sku=sku)
        expected["lines"].append({"sku": sku})
    match draw(st.sampled_from(["", "card", "points"])):
        case "card":
            order.card = expected["card"] = draw(st.text())
        case "points":
            points = draw(st.integers(0, 2**64 - 1))
            order.points = points
            expected["points"] = str(points)
    if draw(st.booleans()):
        seconds, part = draw(st.integers(-62135596800, 253402300799)), draw(st.integers(0, 999_999))
        order.at.seconds, order.at.nanos = seconds, part * 1000
        moment = (EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")
        digits = f"{part:06d}"
        digits = "" if part == 0 else "." + (digits[:3] if digits.endswith("000") else digits)
        expected["at"] = f"{moment}{digits}Z"
    if draw(st.booleans()):  # optional, so that set to nothing is not unset
        order.note = expected["note"] = draw(st.text(max_size=2))
    return order, expected


@given(orders(), st.binary(max_size=20))
@settings(max_examples=300, deadline=None)
def test_protobuf_is_what_was_written(case: tuple[Any, dict[str, Any]], unknown: bytes) -> None:
    order, expected = case
    # A field that the schema does not have: number 900, bytes.
    raw = order.SerializeToString() + b"\xa2\x38" + bytes([len(unknown)]) + unknown
    found, content = PlainProtobuf(SCHEMA, ORDER).decode(record(raw))
    assert content == expected
    assert same(content["price"], expected["price"])
    assert json.loads(found.value or b"") == content
    assert found.raw == raw


def test_protobuf_that_is_none() -> None:
    decoder = PlainProtobuf(SCHEMA, ORDER)
    for raw in (b"\xff", b"\x0a\x05a", b"\x0a\x01\xff", b"\x0b" * 200):
        with pytest.raises(Unreadable, match=r"not a shop\.Order"):
            decoder.decode(record(raw))
    for indexes in ([3], [-1], [0, 5], [0, 0, 0, 0]):
        with pytest.raises(Unreadable, match="no message at"):
            SCHEMA.message_at(indexes)
    assert SCHEMA.message_at([0, 0]) == "shop.Order.Line"


def test_defaults_are_there_and_null_characters_are_escaped() -> None:
    entity = Entity("a", "protobuf", required=("amount",), decoder=PlainProtobuf(SCHEMA, ORDER))
    found = entity.judge(record(CLASS(id="a\0b").SerializeToString()))
    assert isinstance(found, Record)
    assert b"\0" not in (found.value or b"")
    assert json.loads(found.value or b"")["id"] == "a\0b"
    assert json.loads(found.value or b"")["amount"] == "0"
    # A tombstone is one, whatever the format.
    assert entity.judge(record(None)) == record(None)


def moment(milliseconds: int | None) -> datetime | None:
    """By the calendar, which ends somewhere."""
    if milliseconds is None:
        return None
    try:
        return EPOCH.replace(tzinfo=None) + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return None


ENDS = [-62_135_596_800_000, 253_402_300_799_999]
TIMES = (
    st.none()
    | LONG
    | st.integers(0, 2**42)
    | st.sampled_from([e + d for e in ENDS for d in (-1, 0, 1)])
)


@given(st.lists(TIMES, max_size=20))
@settings(deadline=None)
def test_times_of_any_clock(times: list[int | None]) -> None:
    records = [Record("t", 0, n, None, b"v", [], sent_at) for n, sent_at in enumerate(times)]
    now = utc_now()
    rows = bronze_rows("s", Entity("a", "text"), records, 7, now).to_pylist()
    found = [
        (row["_source"], row["_batch_id"], row["ingested_at"], row["_sent_at"]) for row in rows
    ]
    assert found == [("s", 7, now, moment(sent_at)) for sent_at in times]


def test_json_that_cannot_be() -> None:
    content: list[Any] = []
    for _ in range(100_000):
        content = [content]
    with pytest.raises(Unreadable, match="cannot be JSON"):
        as_json(record(b""), content, None)
