"""`lakebed stream` takes Avro, Protobuf and framed JSON from a real Kafka, each record once."""

from __future__ import annotations

import json
import random
import signal
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from broker import Broker
from confluent_kafka.schema_registry import (
    header_schema_id_serializer,
)
from google.protobuf import descriptor_pb2
from lakebed.errors import UserError
from lakebed.ingest.config import read_stream
from lakebed.ingest.faults import POINTS
from lakehouse import Lakehouse
from messages import ORDER, descriptors, message_class
from registry import SchemaRegistry
from sales import (
    COUPON,
    MONEY,
    TEXT,
    TIME,
    VALUE,
    Sender,
    bare,
    bronze,
    of_registry,
    refused,
    sale,
)
from sales import lakehouse as lakehouse
from sales import registry as registry
from streams import Stream, everything, lakebed, send

PROVES = ["pat-streaming-ingest", "pat-dlq", "pat-retryable"]


def test_a_registry(broker: Broker, lakehouse: Lakehouse, registry: SchemaRegistry) -> None:
    sales, orders, notes = (broker.topic(name) for name in ("sales", "orders", "notes"))
    stream = Stream(
        lakehouse,
        broker,
        {
            sales: {"table": "web__sales", "value": "avro", "required": ["id"]},
            orders: {"table": "web__orders", "value": "protobuf"},
            notes: {"table": "web__notes", "registry": True},
        },
        settings=of_registry(registry),
    )
    sender = Sender(registry, sales)
    first = sender.avro(VALUE, sale())
    newer = sender.avro(VALUE | {"coupon": "SPRING"}, sale(COUPON))
    send(broker, sales, [("k", first), ("k", newer), ("k", None)])
    # The framing of newer clients: the value is bare, and a header has the schema's name.
    by_header = Sender(registry, sales, **{"schema.id.serializer": header_schema_id_serializer})
    headed = by_header.avro(VALUE, sale())
    send(broker, sales, [("k", headed)], headers=by_header.headers)
    poison = [b"\0\0\0\0\x63" + first[5:], first[:-1], first + b"!", b"{}", b"", first[:3]]
    send(broker, sales, [("k", value) for value in poison])

    order = message_class(ORDER)(id="o1", amount=2**63 - 1, points=5, lines=[{"sku": "a"}])
    line = message_class("shop.Order.Line")(sku="b")
    later = message_class(ORDER, coupon=True)(id="o2", coupon="SPRING")
    to_orders = Sender(registry, orders)
    # Two messages of one file, and a newer file.
    framed = [to_orders.protobuf(each) for each in (order, line, later)]
    send(broker, orders, [("k", value) for value in framed])
    note = Sender(registry, notes).json(
        {"n": 1}, {"title": "Note", "type": "object", "properties": {"n": {"type": "integer"}}}
    )
    wrong = note[:5] + b'{"n": "one"}'
    send(broker, notes, [("k", note), ("k", wrong)])

    assert "8 rows, 7 to the DLQ" in stream.run()
    guid = registry.schemas[0]["guid"]
    assert bronze(lakehouse, "web__sales") == [
        (TEXT + "}", first, "1"),
        (TEXT + ',"coupon":"SPRING"}', newer, "2"),
        (None, None, None),
        (TEXT + "}", headed, guid),
    ]
    found = bronze(lakehouse, "web__orders")
    assert [row[1:] for row in found] == list(zip(framed, "334", strict=True))
    contents = [json.loads(row[0]) for row in found]
    assert contents[0]["amount"] == "9223372036854775807"
    assert contents[0]["lines"] == [{"sku": "a"}]
    assert contents[1] == {"sku": "b"}
    assert contents[2]["coupon"] == "SPRING"
    (held,) = lakehouse.query("select _record, _schema_id from bronze.web__notes")
    assert b"\0" + int(held[1]).to_bytes(4, "big") + held[0].encode() == note
    rejected = refused(lakehouse)
    assert [row[1] for row in rejected] == [wrong, *poison]
    assert [row[0] for row in rejected] == ["schema", "schema", *["malformed"] * 5]
    assert "Schema 99 not found" in rejected[1][2]

    # The id is registered after all: a replay delivers.
    registry.schemas += [registry.schemas[0]] * (99 - len(registry.schemas))
    output = lakebed(lakehouse, "dlq", "replay", str(stream.file), "--category", "schema")
    assert "1 delivered, 1 refused again." in output
    assert bronze(lakehouse, "web__sales")[-1] == (TEXT + "}", poison[0], "99")
    assert "1 delivered" in lakebed(
        lakehouse, "dlq", "replay", str(stream.file), "--category", "schema", "--force"
    )


def test_keys(broker: Broker, lakehouse: Lakehouse, registry: SchemaRegistry) -> None:
    stock, orders = broker.topic("stock"), broker.topic("orders")
    topics = {
        stock: {"table": "web__stock", "key": "avro"},
        orders: {"table": "web__orders", "key": "protobuf", "value": "avro"},
    }
    stream = Stream(lakehouse, broker, topics, settings=of_registry(registry))
    plain, by_header, values = (
        Sender(registry, stock),
        Sender(registry, stock, **{"schema.id.serializer": header_schema_id_serializer}),
        Sender(registry, orders),
    )
    plain.field = by_header.field = "key"
    place = {"type": "record", "name": "place", "fields": [{"name": "shelf", "type": "long"}]}
    text = plain.avro("cust-é 1", {"type": "string"})
    record = plain.avro({"shelf": 2**53 + 1}, place)
    send(broker, stock, [(text, "{}"), (record, "{}"), (record, None), (None, "{}")])
    headed = by_header.avro({"shelf": 7}, place)
    send(broker, stock, [(headed, "{}")], headers=by_header.headers)
    poison = [
        b"plain",
        b"\0\0\0\0\x63" + text[5:],
        text[:-1],
        plain.avro("a\0b", {"type": "string"}),
    ]
    send(broker, stock, [(key, "{}") for key in poison])
    send(broker, stock, [(text, "{broken")])
    framed = Sender(registry, orders)
    framed.field = "key"
    key = framed.protobuf(message_class("shop.Order.Line")(sku="b"))
    send(broker, orders, [(key, values.avro(VALUE, sale())), (key, None)])

    assert "7 rows, 5 to the DLQ" in stream.run()
    keys = "select _key, _record from bronze.{} order by _offset"
    assert lakehouse.query(keys.format("web__stock")) == [
        ("cust-é 1", "{}"),
        ('{"shelf":9007199254740993}', "{}"),
        ('{"shelf":9007199254740993}', None),
        (None, "{}"),
        ('{"shelf":7}', "{}"),
    ]
    found = lakehouse.query(keys.format("web__orders"))
    assert [json.loads(row[0])["sku"] for row in found] == ["b", "b"]
    assert found[0][1] == TEXT + "}"
    # As they came, in the DLQ.
    rejected = lakehouse.query("select record_key, category from ops.dlq order by position")
    assert [row[0] for row in rejected] == [*poison, text]
    assert [row[1] for row in rejected] == ["malformed", "schema", *["malformed"] * 3]
    registry.schemas += [registry.schemas[0]] * (99 - len(registry.schemas))
    output = lakebed(lakehouse, "dlq", "replay", str(stream.file), "--category", "schema")
    assert "1 delivered" in output
    assert ("cust-é 1",) in lakehouse.query("select _key from bronze.web__stock where _offset = 6")


def count(lakehouse: Lakehouse, table: str, wanted: int | None = None) -> int:
    """Rows of a table beside a stream that runs: as soon as there are `wanted`."""
    deadline = time.monotonic() + 60
    while True:
        try:
            ((found,),) = lakehouse.query(f"select count(*) from {table}")
            if wanted in (None, found):
                return int(found)
        except (duckdb.IOException, duckdb.CatalogException):
            pass  # the stream has the lake, or has not made it yet
        assert time.monotonic() < deadline, f"never {wanted} rows in {table}"
        time.sleep(0.1)


def test_a_registry_that_is_away(
    broker: Broker, lakehouse: Lakehouse, registry: SchemaRegistry
) -> None:
    sales = broker.topic("sales")
    stream = Stream(
        lakehouse,
        broker,
        {sales: {"table": "web__sales", "value": "avro"}},
        settings=of_registry(registry) | {"breaker": {"failures": 3, "rest": 1}},
    )
    sender = Sender(registry, sales)
    known, new = sender.avro(VALUE, sale()), sender.avro(VALUE, sale(COUPON))
    # Whatever goes wrong on the way to the first answer is tried again.
    registry.faults += ["503", "drop", "html"]
    send(broker, sales, [("k", known)])
    process = stream.start()
    try:
        count(lakehouse, "bronze.web__sales", 1)
        registry.stop()
        send(broker, sales, [("k", known)] * 5)
        count(lakehouse, "bronze.web__sales", 6)  # what is known goes on
        send(broker, sales, [("k", new), ("k", known)])
        time.sleep(2.5)
        assert process.poll() is None
        assert count(lakehouse, "bronze.web__sales") == 6
        registry.start()
        count(lakehouse, "bronze.web__sales", 8)
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    assert "No schema registry answers" in output
    assert stream.sent() == everything(broker, sales)
    assert lakehouse.query("select count(*) from ops.dlq") == [(0,)]

    # Stopped while it waits: nothing is lost, and it says so.
    registry.stop()
    send(broker, sales, [("k", new)])
    output = stream.run("--patience", "1", code=1)
    assert "Nothing that was read is lost." in output
    assert "Traceback" not in output
    registry.start()
    stream.run()
    assert stream.sent() == everything(broker, sales)

    # Refused is not away: it ends at once, and says so; nothing goes to the DLQ.
    registry.auth = "lakebed:changed"
    send(broker, sales, [("k", new)])
    assert "refuses (401: Unauthorized)" in stream.run(code=1)
    stream.settings = {"registry": {"url": registry.url + "/nowhere"}}
    registry.auth = None
    assert "refuses (404: HTTP 404 Not Found)" in stream.run(code=1)
    assert lakehouse.query("select count(*) from ops.dlq") == [(0,)]


def test_schemas_of_files(broker: Broker, lakehouse: Lakehouse) -> None:
    (lakehouse.home / "sale.avsc").write_text(json.dumps(sale()))
    (lakehouse.home / "later.avsc").write_text(json.dumps(sale(COUPON)))
    files = descriptor_pb2.FileDescriptorSet(file=descriptors())
    (lakehouse.home / "order.desc").write_bytes(files.SerializeToString())
    sales, single, orders = (broker.topic(name) for name in ("sales", "single", "orders"))
    stream = Stream(
        lakehouse,
        broker,
        {
            sales: {"table": "web__sales", "value": "avro", "schema": "sale.avsc"},
            single: {
                "table": "web__single",
                "value": "avro",
                "schema": ["sale.avsc", "later.avsc"],
                "encoding": "single-object",
            },
            orders: {
                "table": "web__orders",
                "value": "protobuf",
                "schema": "order.desc",
                "message": ORDER,
            },
        },
    )
    from lakebed.ingest.avro import SINGLE_OBJECT, AvroSchema

    plain = bare(sale(), VALUE)
    name = AvroSchema(json.dumps(sale(COUPON))).fingerprint()
    headed = SINGLE_OBJECT + name + bare(sale(COUPON), VALUE)
    order = message_class(ORDER)(id="o1", state=1).SerializeToString()
    send(broker, sales, [("k", plain), ("k", plain[:-2])])
    send(broker, single, [("k", headed), ("k", SINGLE_OBJECT + bytes(8) + plain)])
    send(broker, orders, [("k", order), ("k", b"\xff" + order)])
    assert "3 rows, 3 to the DLQ" in stream.run()
    assert bronze(lakehouse, "web__sales") == [(TEXT + "}", plain, None)]
    assert bronze(lakehouse, "web__single") == [(TEXT + ',"coupon":null}', headed, name.hex())]
    ((text, raw, _),) = bronze(lakehouse, "web__orders")
    assert (json.loads(text)["state"], raw) == ("PAID", order)
    assert sorted(row[0] for row in refused(lakehouse)) == ["malformed", "malformed", "schema"]


def test_a_topic_that_becomes_avro(broker: Broker, lakehouse: Lakehouse) -> None:
    sales = broker.topic("sales")
    send(broker, sales, [("k", '{"id": "old"}')])
    Stream(lakehouse, broker, {sales: "web__sales"}).run()
    (lakehouse.home / "sale.avsc").write_text(json.dumps(sale()))
    plain = bare(sale(), VALUE)
    send(broker, sales, [("k", plain)])
    settings = {"table": "web__sales", "value": "avro", "schema": "sale.avsc"}
    Stream(lakehouse, broker, {sales: settings}).run()
    assert bronze(lakehouse, "web__sales") == [
        ('{"id": "old"}', None, None),
        (TEXT + "}", plain, None),
    ]


CHECKS = """
import json, os, signal

def sale(value):
    content = json.loads(value)
    if content["id"] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if content["amount"].startswith("-"):
        raise ValueError("no money")
"""


def test_killed_between_every_two_steps(
    broker: Broker, lakehouse: Lakehouse, registry: SchemaRegistry
) -> None:
    (lakehouse.home / "checks.py").write_text(CHECKS)
    sales = broker.topic("sales", 3)
    stream = Stream(
        lakehouse,
        broker,
        {sales: {"table": "web__sales", "value": "avro", "check": "checks.py:sale"}},
        settings={"batch": {"rows": 25, "age": 0.2}} | of_registry(registry),
    )
    rng = random.Random(1)
    sender = Sender(registry, sales)
    schemas = [sale(), sale(COUPON)]
    for number, point in enumerate(POINTS):
        values = []
        for index in range(60):
            amount = Decimal(rng.randint(-200, 2000)).scaleb(-2)
            # Named so that only the last of the batches kills the check's process.
            name = "kill" if index == 59 and number == 3 else f"{number}-{index}"
            body = sender.avro(VALUE | {"id": name, "amount": amount}, rng.choice(schemas))
            values.append(body if rng.random() > 0.05 else body[:-3])
        send(broker, sales, [(str(rng.random()), value) for value in values])
        stream.run("--fail-at", f"{point}:2", code=-signal.SIGKILL)
    stream.run()
    assert stream.sent() == everything(broker, sales)
    held = lakehouse.query(
        "select _raw from bronze.web__sales union all select record_value from ops.dlq"
    )
    assert len(held) == 60 * len(POINTS)
    reasons = {row[2].split(" (")[0] for row in refused(lakehouse)}
    assert {"no money", "sale killed its process", "not Avro of its schema"} <= reasons
    assert lakehouse.query(
        "select count(*) from ops.dlq where record_value[1:5] <> '\\x00\\x00\\x00\\x00\\x01'::blob"
        " and record_value[1:5] <> '\\x00\\x00\\x00\\x00\\x02'::blob"
    ) == [(0,)]


def mutated(rng: random.Random, seeds: list[bytes]) -> bytes:
    body = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(0, 4)):
        where = rng.randint(0, len(body))
        match rng.randint(0, 4):
            case 0:
                body[where:where] = rng.randbytes(rng.randint(1, 9))
            case 1:
                del body[where : where + rng.randint(1, 9)]
            case 2 if where < len(body):
                body[where] ^= 1 << rng.randint(0, 7)
            case 3:
                body[where:where] = b"\xff" * 9 + b"\x01"
            case 4:
                body += rng.choice(seeds)[where:]
    return bytes(body)


def test_poison_of_all_kinds(
    broker: Broker, lakehouse: Lakehouse, registry: SchemaRegistry
) -> None:
    sales, orders = broker.topic("sales", 2), broker.topic("orders", 2)
    rng = random.Random(7)
    tree: dict[str, Any] = {
        "type": "record",
        "name": "Tree",
        "fields": [
            {"name": "name", "type": "string"},
            {"name": "when", "type": ["null", TIME, {"type": "int", "logicalType": "date"}]},
            {"name": "worth", "type": {"type": "map", "values": MONEY}},
            {"name": "kind", "type": {"type": "enum", "name": "K", "symbols": ["A", "B"]}},
            {"name": "ratio", "type": "double"},
            {"name": "trees", "type": {"type": "array", "items": "Tree"}},
        ],
    }
    leaf = {
        "name": "x",
        "when": None,
        "worth": {"a": Decimal("1.00")},
        "kind": "A",
        "ratio": 1.5,
        "trees": [],
    }
    values = [leaf, leaf | {"when": VALUE["at"], "trees": [leaf] * 3}]
    sender, to_orders = Sender(registry, sales), Sender(registry, orders)
    seeds = [sender.avro(each, tree) for each in values] + [sender.avro(VALUE, sale())]
    many = message_class(ORDER)(
        id="é", amount=-1, state=7, raw=b"\0\xff", price=2.5, counts={"a": 1}, lines=[{"sku": "s"}]
    )
    protos = [to_orders.protobuf(each) for each in (many, message_class(ORDER)(points=2**63))]
    deep = seeds[0][:5] + b"\x02x\x00\x00\x00" + bytes(8) + b"\x02" * 5
    chain = seeds[0][:5] + (b"\x02x\x00\x00\x00" + bytes(8) + b"\x02") * 40_000 + b"\0"
    sent = {
        sales: [deep, chain, *(mutated(rng, seeds) for _ in range(4000))],
        orders: [mutated(rng, protos) for _ in range(4000)],
    }
    for topic, bodies in sent.items():
        send(broker, topic, [(str(number), body) for number, body in enumerate(bodies)])
    stream = Stream(
        lakehouse,
        broker,
        {
            sales: {"table": "web__sales", "value": "avro"},
            orders: {"table": "web__orders", "value": "protobuf"},
        },
        settings=of_registry(registry),
    )
    stream.run()
    assert stream.sent() == sorted(everything(broker, sales) + everything(broker, orders))
    for topic, table in ((sales, "web__sales"), (orders, "web__orders")):
        good = lakehouse.query(f"select _key, _raw, _record from bronze.{table}")
        bad = lakehouse.query(
            f"select record_key, record_value, category from ops.dlq where topic = '{topic}'"
        )
        held = {int(key): raw for key, raw, _ in [*good, *bad]}
        assert [held[number] for number in range(len(held))] == sent[topic]
        assert len(good) > 400
        assert len(bad) > 400
        assert {category for _, _, category in bad} <= {"malformed", "schema"}
        for _, _, text in good:
            json.loads(text)


# --- what was agreed ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "says"),
    [
        ({"value": "avro", "schema": "none.avsc"}, "none.avsc"),
        ({"value": "avro", "schema": "bad.avsc"}, "not an Avro schema"),
        ({"value": "avro", "schema": ["a.avsc", "b.avsc"]}, "need encoding: single-object"),
        ({"value": "avro", "schema": "a.avsc", "encoding": "x"}, "bare or single-object"),
        ({"value": "avro"}, "needs a `registry` with a url in the stream's file, or a `schema`"),
        ({"value": "avro", "registry": False}, "needs a `schema` file"),
        ({"value": "avro", "schema": "a.avsc", "registry": True}, "the registry has the schemas"),
        ({"value": "avro", "schema": "a.avsc", "message": "a"}, "message is no setting of avro"),
        ({"value": "protobuf", "schema": "a.avsc", "message": "a"}, "--include_imports"),
        ({"value": "protobuf", "schema": "o.desc", "message": "a.B"}, "it has google.protobuf.Tim"),
        ({"value": "protobuf", "schema": "o.desc"}, "needs the message's full name"),
        ({"value": "protobuf", "schema": "alone.desc", "message": ORDER}, "with all imports"),
        ({"value": "text", "registry": True}, "value is json, avro or protobuf"),
        ({"value": "json", "subject": "a"}, "subject is no setting of value: json"),
        ({"registry": 1}, "registry is true or false"),
        ({"key": "avro"}, "key: avro needs a `registry` with a url"),
        ({"key": "json"}, "key is text or bytes, of a topic avro or protobuf"),
        ({"value": "xml"}, "value is json, text, bytes, avro, protobuf"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, topic: dict[str, Any], says: str) -> None:
    (tmp_path / "bad.avsc").write_text('{"type": "record"}')
    (tmp_path / "a.avsc").write_text('"int"')
    (tmp_path / "b.avsc").write_text('"long"')
    files = descriptor_pb2.FileDescriptorSet(file=descriptors())
    (tmp_path / "o.desc").write_bytes(files.SerializeToString())
    alone = descriptor_pb2.FileDescriptorSet(file=descriptors()[1:])
    alone.file[0].dependency[0] = "shop/else.proto"
    (tmp_path / "alone.desc").write_bytes(alone.SerializeToString())
    file = tmp_path / "web.yml"
    content: dict[str, Any] = {"kafka": {"bootstrap.servers": "a"}}
    file.write_text(yaml.safe_dump(content | {"topics": {"t": {"table": "a", **topic}}}))
    with pytest.raises(UserError, match=says) as error:
        read_stream(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("registry", "says"),
    [
        ({}, "needs a url"),
        ({"url": "ftp://a"}, "Invalid url"),
        ({"url": "http://a", "wrong": 1}, "Unrecognized properties: wrong"),
        ({"url": "http://a", "compatibility": "some"}, "compatibility is backward, forward, full"),
    ],
)
def test_mistakes_of_a_registry_are_one_line(
    tmp_path: Path, registry: dict[str, Any], says: str
) -> None:
    file = tmp_path / "web.yml"
    content = {
        "kafka": {"bootstrap.servers": "a"},
        "topics": {"t": {"table": "a", "value": "avro"}},
    }
    file.write_text(yaml.safe_dump(content | {"registry": registry}))
    with pytest.raises(UserError, match=says):
        read_stream(file)
