"""Sales that have a schema: who sends them in each form, and what arrived or was refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import (
    SchemaRegistryClient,
)
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import SerializationContext
from fastavro import parse_schema, schemaless_writer
from lakehouse import Lakehouse
from registry import SchemaRegistry, serving

MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
TIME = {"type": "long", "logicalType": "timestamp-micros"}


def sale(*more: dict[str, Any]) -> dict[str, Any]:
    """A schema; a later version has more fields."""
    fields = [
        {"name": "id", "type": "string"},
        {"name": "amount", "type": MONEY},
        {"name": "at", "type": TIME},
        *more,
    ]
    return {"type": "record", "name": "shop.Sale", "fields": fields}


COUPON = {"name": "coupon", "type": ["null", "string"], "default": None}
VALUE = {"id": "é1", "amount": Decimal("-1234567890.05"), "at": 1_706_700_000_123_456}
TEXT = '{"id":"é1","amount":"-1234567890.05","at":"2024-01-31T11:20:00.123456Z"'


class Sender:
    """Frames values as Confluent's own clients do, and registers their schemas."""

    def __init__(self, registry: SchemaRegistry, topic: str, **settings: Any) -> None:
        auth = {"basic.auth.user.info": registry.auth} if registry.auth else {}
        self.client = SchemaRegistryClient({"url": registry.url, **auth})
        self.topic, self.headers = topic, []  # type: ignore[var-annotated]
        self.field = "value"
        self.settings = {"subject.name.strategy.type": "TOPIC", **settings}

    def _made(self, serialize: Any, value: Any) -> bytes:
        self.headers = []
        made: bytes = serialize(value, SerializationContext(self.topic, self.field, self.headers))
        return made

    def avro(self, value: Any, schema: Any) -> bytes:
        return self._made(
            AvroSerializer(self.client, json.dumps(schema), conf=self.settings), value
        )

    def json(self, value: Any, schema: Any) -> bytes:
        return self._made(
            JSONSerializer(json.dumps(schema), self.client, conf=self.settings), value
        )

    def protobuf(self, message: Any) -> bytes:
        return self._made(ProtobufSerializer(type(message), self.client, self.settings), message)


def bare(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), value)
    return out.getvalue()


def of_registry(registry: SchemaRegistry, **more: Any) -> dict[str, Any]:
    auth = {"basic.auth.user.info": registry.auth} if registry.auth else {}
    return {"registry": {"url": registry.url, **auth, **more}}


def bronze(lakehouse: Lakehouse, table: str) -> list[tuple[Any, ...]]:
    return lakehouse.query(
        f"select _record, _raw, _schema_id from bronze.{table} order by _topic_partition, _offset"
    )


def refused(lakehouse: Lakehouse) -> list[tuple[Any, ...]]:
    return lakehouse.query(
        "select category, record_value, reason from ops.dlq order by topic, position"
    )


def judged(registry: SchemaRegistry, kind: str, number: int, body: bytes) -> Any:
    """What becomes of a record that says it has the schema of that id."""
    from lakebed.ingest.records import Entity, Record, judge
    from lakebed.ingest.registry import Framed, Registry

    decoder = Framed(kind, Registry(of_registry(registry)["registry"]))
    value = b"\0" + number.to_bytes(4, "big") + body
    record = Record("t", 0, 0, None, value, [], None)
    good, rejected = judge([(Entity("a", kind.lower(), decoder=decoder), record)])
    if rejected:
        return (rejected[0].category, rejected[0].reason)
    ((found,),) = good.values()
    assert found.received == record
    return json.loads(found.value or b"")


@pytest.fixture
def lakehouse(tmp_path: Path) -> Lakehouse:
    return Lakehouse(tmp_path)


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with serving(auth="lakebed:secret") as registry:
        yield registry
