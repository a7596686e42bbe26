"""Erasure of what streams took in, and of what they refused; nothing read again brings it back."""

from __future__ import annotations

import io
import json
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import shop
from broker import Broker
from fastavro import parse_schema, schemaless_writer
from harness import AT_WORK, DbtProject, lakebed
from lakebed.erase.scan import scan
from lakebed.erase.suppress import _counted
from lakebed.ingest.patience import Patience, TryLater
from lakebed.project import SparkLake
from lakebed.spark.arrow import unpacked
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session
from lakebed.spark.sink import SparkSink, hold
from lakehouse import Lakehouse
from pyarrow import parquet
from streams import Stream, send

PROVES = ["pat-gdpr-erase"]

SOURCES = """
sources:
  - name: web
    schema: bronze
    tables:
      - name: web__clicks
        config: {meta: {erase: {customer: delete}}}
        columns:
          - {name: _key, config: {meta: {subject: customer}}}
          - {name: _record, config: {meta: {subject: customer, fields: [user.id, owner]}}}
      - name: web__orders
        config: {meta: {erase: {customer: {anonymise: {customer: erased, email: null, _key: erased}}}}}
        columns:
          - {name: _key, config: {meta: {subject: customer}}}
          - {name: _record, config: {meta: {subject: customer, fields: [customer]}}}
"""  # noqa: E501
WHO = ("customer", shop.ADA)
EMAIL = shop.IDENTIFYING[1]


def messages(who: str) -> tuple[list[tuple[Any, Any]], list[tuple[Any, Any]]]:
    """Clicks and orders of a customer; the last two clicks are refused."""
    clicks = [
        (who, '{"id": 1}'),
        ("k", json.dumps({"id": 2, "user": {"id": who, "email": f"{who} {EMAIL}"}})),
        ("k", json.dumps({"id": 3, "owner": f" {who} "})),
        (who, None),
        ("k", f'{{"id": 6, "user": {{"id": "nobody", "id": "{who}"}}}}'),
        ("k", json.dumps({"nothing": who, "mail": EMAIL})),
        ("k", f'{{"id": 4, "user": {{"id": "{who}"'),
    ]
    orders = [
        (who, json.dumps({"id": 5, "customer": who, "email": EMAIL, "é": [1.5, who == ""]})),
        (who, f"no JSON {EMAIL}"),
        (who, None),
    ]
    return clicks, orders


TABLES = ("bronze.web__clicks", "bronze.web__orders", "ops.dlq")


@pytest.fixture
def project(tmp_path: Path) -> DbtProject:
    return DbtProject(tmp_path, {"models/web.yml": SOURCES, "models/one.sql": "select 1 as id"})


def contents(query: Callable[[str], list[tuple[Any, ...]]]) -> list[list[tuple[Any, ...]]]:
    place = "_topic, _offset, _key, _record"
    return [
        query(f"select {place} from bronze.web__clicks order by all"),
        query(f"select {place} from bronze.web__orders order by all"),
        query("select topic, position, record_key, record_value from ops.dlq order by all"),
    ]


def check_erased(before: list[list[Any]], after: list[list[Any]]) -> None:
    """Her clicks and refused records are gone, her order and its tombstone are anonymised, and what
    is no JSON is gone; others' are as before."""
    assert after[0] == without(before[0], shop.ADA)
    assert after[2] == without(before[2], shop.ADA)
    hers, tombstone = [row for row in after[1] if row not in before[1]]
    assert (hers[2], *tombstone[2:]) == ("erased", "erased", None)
    assert json.loads(hers[3]) == {"id": 5, "customer": "erased", "é": [1.5, False]}
    assert without(after[1], "erased") == without(before[1], shop.ADA)


def without(found: Sequence[tuple[Any, ...]], who: str) -> list[tuple[Any, ...]]:
    return [row for row in found if who not in repr(row)]


def test_streams_and_their_dlq(broker: Broker, project: DbtProject) -> None:
    clicks, orders = broker.topic("clicks"), broker.topic("orders")
    topics: dict[str, Any] = {
        clicks: {"table": "web__clicks", "required": ["id"]},
        orders: {"table": "web__orders", "value": "text"},
    }
    for who in ("cust-00001", shop.ADA, "cust-93f2a"):
        hers = messages(who)
        send(broker, clicks, hers[0])
        send(broker, orders, hers[1])
    home = project.folder
    lakehouse = Lakehouse(home, {"LAKEBED_ERASURE_KEY": shop.KEY})
    stream = Stream(lakehouse, broker, topics)
    assert "24 rows, 6 to the DLQ" in stream.run()
    before = contents(lakehouse.query)
    assert any(shop.ADA in repr(row) for row in before[2])
    for table in TABLES:
        lakebed(project, "export", table, f"exports/{table}")
    shutil.copytree(home / "exports", home / "backups")

    done = shop.erase(project, "run", *WHO).stdout
    assert "5  delete bronze.web__clicks" in done
    assert "3  anonymise bronze.web__orders" in done
    assert "2   ops.dlq" in done
    assert f"2  delete export {home}/exports/ops.dlq" in done
    after = contents(lakehouse.query)
    check_erased(before, after)
    for table in TABLES:
        rows = f"select * from {table} order by all"
        copied = rows.replace(table, f"'{home}/exports/{table}/data/*.parquet'")
        assert lakehouse.query(copied) == lakehouse.query(rows)
    assert scan([home / name for name in ("lake", "target", "exports")], [shop.ADA])[1] == []
    assert "Nothing is left" in shop.erase(project, "verify", *WHO).stdout
    secret = {"LAKEBED_ERASURE_KEY": shop.KEY}
    copy = ("import", "backups/bronze.web__clicks", "bronze.back")
    back = lakebed(project, *copy, check=False, env=secret)
    assert "has 4 rows of a customer who was erased" in back.stderr

    # A new stream reads the topics from their start again, as after a reset of its positions.
    for refused in (None, "another secret, of 32 letters ..."):
        blind = Lakehouse(home, {"LAKEBED_ERASURE_KEY": refused or ""})
        assert "LAKEBED_ERASURE_KEY" in Stream(blind, broker, topics, name="again").run(code=1)
    assert contents(lakehouse.query) == after
    again = Stream(lakehouse, broker, topics, name="again")
    again.run()
    twice = contents(lakehouse.query)
    for now, then in zip(twice, after, strict=True):
        strip = [(row[0], row[1], row[2], _loaded(row[3])) for row in now]
        assert sorted(map(repr, strip)) == sorted(
            repr((row[0], row[1], row[2], _loaded(row[3]))) for row in then for _ in range(2)
        )
    assert scan([home / "lake"], [shop.ADA])[1] == []

    # Another stream's table that no source declares: whether it names her can be known.
    other = broker.topic("other")
    send(broker, other, [("k", '{"text": "none of hers"}')])
    undeclared = Stream(lakehouse, broker, {other: "web__other"}, name="other")
    undeclared.run()
    shop.erase(project, "plan", "customer", "cust-00001")
    send(broker, other, [("k", '{"who": "cust-00001"}')])
    undeclared.run()
    refused_plan = shop.erase(project, "run", "customer", "cust-00001", check=False)
    assert "bronze.web__other, which a stream writes, names the customer" in refused_plan.stderr
    assert len(contents(lakehouse.query)[0]) == len(twice[0])


@pytest.mark.spark
@pytest.mark.timeout(1200)
def test_streams_on_spark(
    broker: Broker, tmp_path: Path, own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, with a batch that was taken in and not delivered when its writer was killed."""
    cluster, home = own_cluster, tmp_path / "streams"
    files = {"models/web.yml": SOURCES, "models/one.sql": "select 1 as id"}
    project = DbtProject(tmp_path / "project", files, config=AT_WORK, cluster=cluster)
    home.mkdir()
    environment = {**cluster.environment, "LAKEBED_TARGET": "spark"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    lake = SparkLake("spark", {"type": "spark", "method": "thrift"})

    def query(sql: str) -> list[tuple[Any, ...]]:
        with connect_session(cluster.connect_url) as session:
            rows = [tuple(row) for row in session.sql(sql).collect()]
        return [tuple(bytes(v) if isinstance(v, bytearray) else v for v in row) for row in rows]

    clicks, orders = broker.topic("clicks"), broker.topic("orders")
    topics: dict[str, Any] = {
        clicks: {"table": "web__clicks", "required": ["id"]},
        orders: {"table": "web__orders", "value": "text"},
    }
    for who in ("cust-00001", shop.ADA):
        send(broker, clicks, messages(who)[0])
        send(broker, orders, messages(who)[1])
    lakehouse = Lakehouse(home, {**environment, "LAKEBED_ERASURE_KEY": shop.KEY})
    stream = Stream(lakehouse, broker, topics)
    assert "16 rows, 4 to the DLQ" in stream.run()
    before = contents(query)
    for table in TABLES:
        lakebed(project, "export", table, f"exports/{table}")
    clicked = project.folder / "exports" / TABLES[0]
    shutil.copytree(clicked, backup := project.folder / "backup")
    send(broker, clicks, messages(shop.ADA)[0])
    stream.run("--fail-at", "positions-moved", code=-signal.SIGKILL)
    assert contents(query) == before

    assert "5  delete bronze.web__clicks" in shop.erase(project, "plan", *WHO).stdout
    # An erasure that was killed held the streams.
    hold(lake, ["web"])
    with SparkSink(lake, "web", [], Patience(1)) as sink, pytest.raises(TryLater, match="erase"):
        sink.write({}, [], {("t", 0): (None, 1)})
    done = shop.erase(project, "run", *WHO).stdout
    assert "10  delete bronze.web__clicks" in done
    assert "3  anonymise bronze.web__orders" in done
    assert "4   ops.dlq" in done
    assert f"2  delete export {project.folder}/exports/ops.dlq" in done
    after = contents(query)
    check_erased(before, after)
    for table in TABLES:
        copied = f"select * from parquet.`{project.folder}/exports/{table}/data`"
        assert sorted(map(repr, query(copied))) == sorted(
            map(repr, query(f"select * from {table}"))
        )
    assert scan([project.folder / "exports"], [shop.ADA])[1] == []
    again = ("import", str(backup), "bronze.back")
    back = lakebed(project, *again, check=False, env={"LAKEBED_ERASURE_KEY": shop.KEY})
    assert "has 4 rows of a customer who was erased" in back.stderr

    def traces() -> list[str]:
        """Files with her key, also in batches as the lake keeps them."""
        found = [
            str(trace) for trace in scan([home, tmp_path / "cluster" / "warehouse"], [shop.ADA])[1]
        ]
        for file in (tmp_path / "cluster" / "warehouse").rglob("ops.db/positions__*/*.parquet"):
            for batch in parquet.read_table(file)["batch"].drop_null().to_pylist():
                found += [str(file)] if shop.ADA in repr(unpacked(batch)) else []
        return found

    assert traces() == []
    assert "Nothing is left" in shop.erase(project, "verify", *WHO).stdout

    # A new stream reads the topics from their start again, as after a reset of its positions.
    blind = Lakehouse(home, {**environment, "LAKEBED_ERASURE_KEY": ""})
    assert "LAKEBED_ERASURE_KEY" in Stream(blind, broker, topics, name="again").run(code=1)
    assert contents(query) == after
    Stream(lakehouse, broker, topics, name="again").run()
    twice = contents(query)
    # Ada's click and DLQ records stay away, her order comes back as it is allowed to.
    for now, then in zip(twice, after, strict=True):
        read = [(*row[:3], _loaded(row[3])) for row in then for _ in range(2)]
        assert sorted(map(repr, [(*row[:3], _loaded(row[3])) for row in now])) == sorted(
            map(repr, read)
        )
    assert traces() == []

    # Another stream's table that no source declares.
    other = broker.topic("other")
    send(broker, other, [("k", '{"who": "cust-00001"}')])
    Stream(lakehouse, broker, {other: "web__other"}, name="other").run()
    refused_plan = shop.erase(project, "run", "customer", "cust-00001", check=False)
    assert "bronze.web__other, which a stream writes, names the customer" in refused_plan.stderr
    assert contents(query) == twice
    send(broker, other, [("k", "{}")])  # and streams go on
    assert "1 row" in Stream(lakehouse, broker, {other: "web__other"}, name="other").run()


AVRO = {
    "type": "record",
    "name": "click",
    "fields": [
        {"name": "id", "type": ["null", "long"], "default": None},
        {"name": "user", "type": ["null", "string"], "default": None},
        {"name": "email", "type": "string"},
    ],
}
AVRO_SOURCES = """
sources:
  - name: web
    schema: bronze
    tables:
      - name: web__clicks
        config: {meta: {stream: avro, erase: {customer: delete}}}
        columns:
          - {name: _record, config: {meta: {subject: customer, fields: [user]}}}
      - name: web__orders
        config: {meta: {stream: avro, erase: {customer: {anonymise: {user: erased, email: null}}}}}
        columns:
          - {name: _record, config: {meta: {subject: customer, fields: [user]}}}
"""


def test_what_was_received_in_avro_goes_too(broker: Broker, tmp_path: Path) -> None:
    files = {"models/web.yml": AVRO_SOURCES, "models/one.sql": "select 1 as id"}
    project = DbtProject(
        tmp_path, files, config={"on-run-start": ["{{ lakebed.create_stream_tables() }}"]}
    )
    project.run("run")  # dbt makes the tables; the stream finds the columns that it needs
    (tmp_path / "click.avsc").write_text(json.dumps(AVRO))
    clicks, orders = broker.topic("clicks"), broker.topic("orders")
    settings = {"value": "avro", "schema": "click.avsc", "required": ["id"]}
    topics = {
        clicks: {"table": "web__clicks", **settings},
        orders: {"table": "web__orders", **settings},
    }

    def avro(number: int | None, who: str) -> bytes:
        return written(AVRO, {"id": number, "user": who, "email": f"{who} {EMAIL}"})

    other = "cust-00001"
    for who in (other, shop.ADA):
        # Three are refused: by what is required, cut off after the key, and with her name in an
        # Avro key alone.
        good, missing, key = avro(1, who), avro(None, who), written("string", who)
        for topic in topics:
            send(broker, topic, [("k", good), ("k", missing), ("k", good[:-9]), (key, b"?")])
    lakehouse = Lakehouse(tmp_path, {"LAKEBED_ERASURE_KEY": shop.KEY})
    assert "4 rows, 12 to the DLQ" in Stream(lakehouse, broker, topics).run()

    done = shop.erase(project, "run", *WHO).stdout
    assert "6   ops.dlq" in done

    def held() -> list[list[tuple[Any, ...]]]:
        tables = ("web__clicks", "web__orders")
        found = [
            lakehouse.query(f"select _record, _raw from bronze.{each} order by all")
            for each in tables
        ]
        return [*found, lakehouse.query("select distinct record_value from ops.dlq order by all")]

    hers, others = ('{"id":1,"user":"erased"}', None), avro(1, other)
    text = json.dumps({"id": 1, "user": other, "email": f"{other} {EMAIL}"}, separators=(",", ":"))
    after = [
        [(text, others)],
        [(text, others), hers],
        [(avro(None, other),), (others[:-9],), (b"?",)],
    ]
    assert held() == after
    assert scan([tmp_path / "lake", tmp_path / "target"], [shop.ADA])[1] == []
    # And a stream that reads it all again brings nothing back.
    Stream(lakehouse, broker, topics, name="again").run()
    assert held() == [[row for row in rows for _ in range(2)] for rows in after[:2]] + after[2:]
    assert scan([tmp_path / "lake"], [shop.ADA])[1] == []


def test_texts_are_found_by_their_length() -> None:
    """In Avro (twice the length) and in Protobuf, short and long, wherever they stand."""
    for size in (1, 63, 64, 127, 128, 200, 8191, 8192):
        text = "é" + "k" * (size - 1)
        length = len(text.encode())
        heads = {written("long", length), _varint(length)}
        for head in heads:
            assert text in set(_counted(b"\x0a" + head + text.encode() + b"\xff1"))
            assert text not in set(_counted(b"\x0a" + head + text.encode()[:-1]))


def written(schema: Any, value: Any) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), value)
    return out.getvalue()


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number % 128 + 128)
        number //= 128
    return bytes([*found, number])


def _loaded(value: Any) -> Any:
    """The meaning of a record: SQL and Python order and space JSON differently."""
    try:
        return json.dumps(json.loads(value), sort_keys=True)
    except (TypeError, ValueError):
        return value
