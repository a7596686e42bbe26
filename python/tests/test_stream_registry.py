"""Schemas of a registry: references, and what is compatible."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from typing import Any

import pytest
from broker import Broker
from confluent_kafka.schema_registry import (
    Schema,
    SchemaReference,
)
from google.protobuf import descriptor_pb2
from lakebed.errors import UserError
from lakehouse import Lakehouse
from messages import ORDER, message_class, order_file
from registry import SchemaRegistry
from sales import COUPON, MONEY, VALUE, Sender, judged, of_registry, sale
from sales import lakehouse as lakehouse
from sales import registry as registry
from streams import Stream, send

PROVES = ["pat-streaming-ingest"]


def test_schemas_that_refer_to_others(registry: SchemaRegistry) -> None:
    client = Sender(registry, "t").client

    def register(subject: str, text: str, kind: str, *refers: tuple[str, str]) -> int:
        others = [SchemaReference(name, subject, 1) for name, subject in refers]
        return int(client.register_schema(subject, Schema(text, kind, others)))

    record = {"type": "record", "name": "shop.Price", "fields": [{"name": "net", "type": MONEY}]}
    register("price", json.dumps(record), "AVRO")
    node = {
        "type": "record",
        "name": "shop.Item",
        "fields": [
            {"name": "price", "type": "shop.Price"},
            {"name": "parts", "type": {"type": "array", "items": "Item"}},
        ],
    }
    register("item", json.dumps(node), "AVRO", ("shop.Price", "price"))
    # A union of what is only named, by way of one that refers on.
    text = json.dumps(["null", "shop.Item", "shop.Price"])
    union = register("either", text, "AVRO", ("shop.Item", "item"))
    price = b"\x04\x00\x96"  # 1.50
    leaf = price + b"\x00"
    assert judged(registry, "AVRO", union, b"\x02" + price + b"\x02" + leaf + b"\x00") == {
        "price": {"net": "1.50"},
        "parts": [{"price": {"net": "1.50"}, "parts": []}],
    }
    assert judged(registry, "AVRO", union, b"\x04" + price) == {"net": "1.50"}
    deep = (price + b"\x02") * 100_000
    assert judged(registry, "AVRO", union, b"\x02" + deep) == ("malformed", "nested too deeply")
    missing = register("lost", text, "AVRO", ("shop.Item", "nowhere"))
    assert judged(registry, "AVRO", missing, b"\x00")[0] == "schema"
    # Bytes alone have no length before them, as Confluent's clients write them.
    alone = register("raw", '"bytes"', "AVRO")
    assert judged(registry, "AVRO", alone, b"\xff\x00") == "/wA="
    broken = register("broken", '{"type": "recor"}', "AVRO")
    assert judged(registry, "AVRO", broken, b"")[0] == "schema"

    basket = descriptor_pb2.FileDescriptorProto(
        name="basket.proto", package="shop", syntax="proto3", dependency=["order.proto"]
    )
    message = basket.message_type.add(name="Basket")
    message.field.add(name="order", number=1, label=1, type=11, type_name=".shop.Order")
    imported, own = (
        base64.b64encode(each.SerializeToString()).decode() for each in (order_file(), basket)
    )
    register("order", imported, "PROTOBUF")
    number = register("basket", own, "PROTOBUF", ("order.proto", "order"))
    order = message_class(ORDER)(id="o1", at=datetime(1970, 1, 1, 0, 0, 1)).SerializeToString()
    found = judged(registry, "PROTOBUF", number, b"\0\x0a" + bytes([len(order)]) + order)
    assert (found["order"]["id"], found["order"]["at"]) == ("o1", "1970-01-01T00:00:01Z")

    register("name", '{"type": "string", "minLength": 2}', "JSON")
    text = '{"type": "object", "properties": {"name": {"$ref": "name.json"}}}'
    person = register("person", text, "JSON", ("name.json", "name"))
    assert judged(registry, "JSON", person, b'{"name": "Ada"}') == {"name": "Ada"}
    refused = ("schema", "$.name: 'A' is too short")
    assert judged(registry, "JSON", person, b'{"name": "A"}') == refused
    # One that refers to what it was not given: nothing is fetched from the internet.
    outside = register("outside", '{"$ref": "http://example.com/a.json"}', "JSON")
    assert judged(registry, "JSON", outside, b"{}")[0] == "processing"


def test_two_kinds_with_one_id(registry: SchemaRegistry) -> None:
    """A broken Avro record that names a Protobuf schema does the topic of that schema no harm."""
    from lakebed.ingest.records import Entity, Record, judge
    from lakebed.ingest.registry import Framed, Registry

    body = Sender(registry, "t").protobuf(message_class(ORDER)(id="o1"))
    shared = Registry(of_registry(registry)["registry"])
    kinds = ("AVRO", "PROTOBUF", "AVRO", "PROTOBUF")
    good, rejected = judge(
        (Entity(kind, kind.lower(), decoder=Framed(kind, shared)), record)
        for kind in kinds
        for record in [Record("t", 0, 0, None, body, [], None)]
    )
    assert {entity.value: len(held) for entity, held in good.items()} == {"protobuf": 2}
    assert {each.reason for each in rejected} == {"schema 1 is PROTOBUF, not AVRO"}


NEEDED = {"name": "shop", "type": "string"}  # without a default: who has it cannot read old ones


FEWER = {"type": "record", "name": "shop.Sale", "fields": sale()["fields"][:2]}


@pytest.mark.parametrize(
    ("level", "wanted", "newer", "says"),
    [
        ("BACKWARD", "backward", sale(COUPON), None),
        ("BACKWARD", "backward", sale(NEEDED), "is not backward compatible with version 1"),
        ("BACKWARD", "forward", FEWER, "is not forward compatible"),
        ("BACKWARD_TRANSITIVE", "forward", sale(NEEDED), None),
        ("FORWARD", "backward", FEWER, None),
        ("FORWARD", "backward", sale(NEEDED), "is not backward compatible"),
        ("FORWARD", "forward", FEWER, "is not forward compatible"),
        ("FULL", "full", sale(COUPON), None),
        ("BACKWARD", "full", FEWER, "is not forward compatible"),
        ("NONE", "full", FEWER, "its level is NONE"),
    ],
)
def test_compatibility(
    registry: SchemaRegistry, level: str, wanted: str, newer: Any, says: str | None
) -> None:
    from lakebed.ingest.registry import Registry

    sender = Sender(registry, "sales")
    sender.avro(VALUE, sale())
    checked = Registry(of_registry(registry)["registry"], wanted)
    checked.check("sales", "sales-value", "1")
    registry.levels["sales-value"] = level
    sender.avro(VALUE | {"shop": "s"}, newer)
    for last in ("1", registry.schemas[0]["guid"]):
        fresh = Registry(of_registry(registry)["registry"], wanted)
        if says is None:
            fresh.check("sales", "sales-value", last)
        else:
            with pytest.raises(UserError, match=says):
                fresh.check("sales", "sales-value", last)


def test_a_break_is_said_before_it_is_read(
    broker: Broker, lakehouse: Lakehouse, registry: SchemaRegistry
) -> None:
    sales = broker.topic("sales")
    sender = Sender(registry, sales)
    settings = of_registry(registry, compatibility="backward")
    topics = {sales: {"table": "web__sales", "value": "avro"}}
    stream = Stream(lakehouse, broker, topics, settings=settings)
    send(broker, sales, [("k", sender.avro(VALUE, sale()))])
    assert "1 rows" in stream.run()
    send(broker, sales, [("k", sender.avro(VALUE | {"shop": "s"}, sale(NEEDED)))])
    output = stream.run(code=1)
    assert f"version 2 of {sales}-value is not backward compatible with version 1" in output
    assert "Traceback" not in output
    assert len(stream.sent()) == 1
    stream.settings = of_registry(registry)
    assert "1 rows" in stream.run()
    # Now that is what was last read.
    stream.settings = settings
    assert "0 rows" in stream.run()
    other = {sales: {"table": "web__sales", "value": "avro", "subject": "nothing"}}
    stream = Stream(lakehouse, broker, other, settings=settings)
    assert "cannot be told of the subject nothing" in stream.run(code=1)
