"""`lakebed stream` with a real Kafka: what goes where, and what a person is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from broker import Broker
from lakehouse import Lakehouse
from streams import Stream, send

PROVES = ["pat-streaming-ingest", "pat-dlq"]


@pytest.fixture
def lakehouse(tmp_path: Path) -> Lakehouse:
    return Lakehouse(tmp_path)


def test_every_byte_is_in_bronze_or_in_the_dlq(broker: Broker, lakehouse: Lakehouse) -> None:
    clicks, raw = broker.topic("clicks"), broker.topic("raw")
    good = [(f"k{n}", json.dumps({"id": n, "text": "é😀 'quoted' \\ 1"})) for n in range(50)]
    poison: list[tuple[bytes | str | None, bytes | str | None]] = [
        ("p0", b"\xff\xfe\x00"),
        ("p1", b"{\"id\": 1"),
        ("p2", b"NaN"),
        ("p3", b""),
        (b"\x80", b"{}"),
        ("p5", b'{"a": "\x00"}'),
        ("p6", b'{"id": null}'),
        ("p7", b"[1]"),
        ("p8", b"[" * 100_000 + b"]" * 100_000),
        ("p9", b"9" * 5000),
    ]
    send(broker, clicks, good, headers=[("trace", b"a"), ("trace", b"\xff"), ("none", None)])
    send(broker, clicks, [("k1", None), (None, None)])
    send(broker, clicks, poison)
    everything = bytes(range(256))
    send(broker, raw, [(everything, everything * n) for n in range(40)])
    stream = Stream(
        lakehouse,
        broker,
        {
            clicks: {"table": "web__clicks", "required": ["id"]},
            raw: {"table": "web__raw", "value": "bytes", "key": "bytes"},
        },
    )
    output = stream.run()
    assert "92 rows, 10 to the DLQ" in output

    rows = lakehouse.query("select _key, _record from bronze.web__clicks order by _offset")
    assert rows == [*good, ("k1", None), (None, None)]
    assert lakehouse.query(
        "select distinct _headers, _source, _topic, _partition from bronze.web__clicks where"
        " _record is not null"
    ) == [('[["trace", "a"], ["trace", {"base64": "/w=="}], ["none", null]]', "web", clicks, 0)]
    found = lakehouse.query(
        "select record_key, record_value, category, attempts, status from ops.dlq order by position"
    )
    categories = ["malformed"] * 6 + ["schema"] * 2 + ["processing"] * 2
    assert found == [
        (key.encode() if isinstance(key, str) else key, value, category, 1, "open")
        for (key, value), category in zip(poison, categories, strict=True)
    ]
    held = lakehouse.query("select _key, _record from bronze.web__raw order by _offset")
    assert held == [(everything, everything * n) for n in range(40)]

    # Again: nothing is new. And more: only that.
    assert "0 rows, 0 to the DLQ, 0 batches" in stream.run()
    send(broker, clicks, good[:3])
    assert "3 rows, 0 to the DLQ, 1 batches" in stream.run()
