"""All that the sidecar takes in, its DLQ and its circuits, in a lake on Spark: as on DuckLake."""

from __future__ import annotations

import json
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from api import Api
from api import serving as serving_api
from lakebed.edge.frames import NO_LINK, Batch, frame, pack
from lakebed.ingest.breaker import Breaker, Fuse, circuits
from lakebed.ingest.faults import POINTS
from lakebed.ingest.patience import Patience
from lakebed.ingest.records import Entity, Record, Rejected
from lakebed.ingest.sink import Fenced
from lakebed.ingest.tables import Mark, utc_now
from lakebed.project import SparkLake
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session
from lakebed.spark.sink import SparkSink
from lakehouse import Lakehouse
from postgres import Postgres
from pulls import Pull, order
from streams import lakebed
from test_breaker import Clock, Service, refused
from test_breaker import clock as clock
from test_capture import Capturing, items
from test_capture import server as server
from test_capture import source as source
from test_edge import SECRET as EDGE_SECRET
from test_edge import serving as serving_gateway
from test_regions import COLUMNS, Centre, Region, everything, masked
from test_stream_spark import unique
from webhooks import SECRET, post, serving

pytestmark = pytest.mark.spark
PROVES = [
    "pat-api-pull",
    "pat-cdc-log-based",
    "pat-circuit-breaker",
    "pat-dlq",
    "pat-edge-batching",
    "pat-multi-region-ingest",
    "pat-webhook-sink",
]


def on_spark(home: Path, cluster: Cluster) -> Lakehouse:
    return Lakehouse(home, {**cluster.environment, "LAKEBED_TARGET": "spark"})


def ask(cluster: Cluster, sql: str) -> list[tuple[Any, ...]]:
    with connect_session(cluster.connect_url) as session:
        return [tuple(row) for row in session.sql(sql).collect()]


def hooks() -> dict[str, Any]:
    """The file of webhooks, with a name and a table of their own."""
    orders = {"table": unique("shop__orders"), "secret": SECRET, "required": ["id"]}
    return {"name": unique("hooks"), "endpoints": {"orders": orders}, "patience": 60}


@pytest.fixture
def target(spark_lake: Cluster, monkeypatch: pytest.MonkeyPatch) -> SparkLake:
    """The lake, for sinks in this process."""
    for name, value in spark_lake.environment.items():
        monkeypatch.setenv(name, value)
    return SparkLake("spark", {"type": "spark", "method": "thrift"})


@pytest.mark.soak_on("iceberg")
def test_webhooks_and_what_was_refused(tmp_path: Path, spark_lake: Cluster) -> None:
    settings = hooks()
    name, orders = settings["name"], settings["endpoints"]["orders"]
    table = orders["table"]
    lakehouse = on_spark(tmp_path, spark_lake)
    with serving(lakehouse, **settings) as (server, client):
        client.timeout = 120
        body = json.dumps({"id": 1, "text": "é漢"})
        assert post(client, "m1", body).json() == {"status": "stored"}
        stored = f"select _key, _record, _offset from bronze.{table} order by _offset"
        assert ask(spark_lake, stored) == [("m1", body, 0)]  # an answer of 2xx: it is there
        assert post(client, "m1", body).json() == {"status": "duplicate"}
        with ThreadPoolExecutor(4) as pool:
            same = list(pool.map(lambda _: post(client, "m2", body).json()["status"], range(4)))
        assert same.count("stored") >= 1
        assert post(client, "m3", '{"no": 3}').json() == {"status": "dlq"}
        assert post(client, "m3", '{"no": 3}').json() == {"status": "duplicate"}
        assert post(client, "m4", "{broken").json() == {"status": "dlq"}
        server.stop(signal.SIGKILL)

        # Accepted, and killed before anybody was told: sent again it is no other message.
        server.start("--fail-at", "positions-moved")
        with pytest.raises(Exception, match=r"disconnect|reset|closed"):
            post(client, "m5", body)
        server.start()
        assert post(client, "m5", body).json() == {"status": "duplicate"}
        assert [row[0] for row in ask(spark_lake, stored)] == ["m1", "m2", "m5"]

    # The DLQ, while nobody listens.
    listed = lakebed(lakehouse, "dlq", "list", "--stream", name)
    assert f"{name} -> {table}: 1 schema, open" in listed
    (bad, broken) = (f"{name}:orders:0:{offset}" for offset in (2, 3))
    assert f"{bad}  schema: required fields are missing: id  (1 attempts" in listed
    assert lakebed(lakehouse, "dlq", "show", broken, "--raw") == "{broken"
    assert "No record nothing" in lakebed(lakehouse, "dlq", "show", "nothing", code=1)
    orders["required"] = []
    fixed = tmp_path / "fixed.yml"
    fixed.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = ("lakebed", "dlq", "replay", str(fixed))
    # Accepted, and killed: the next one delivers it before it looks for what is open.
    died = lakehouse.run(*command, "--fail-at", "positions-moved", check=False)
    assert died.returncode == -signal.SIGKILL
    assert "0 delivered, 1 refused again." in lakebed(lakehouse, *command[1:])
    assert ("m3", '{"no": 3}', 2) in ask(spark_lake, stored)
    assert "1 discarded." in lakebed(lakehouse, "dlq", "discard", broken)
    found = ask(
        spark_lake,
        "select status, attempts, resolved_at is not null from ops.dlq"
        f" where stream = '{name}' order by position",
    )
    assert found == [("replayed", 2, True), ("discarded", 3, True)]
    # What reads batches after its position finds it.
    batches = ask(spark_lake, f"select _key, _batch_id from bronze.{table} order by _batch_id desc")
    assert batches[0][0] == "m3"
    assert batches[0][1] > batches[1][1]


@pytest.mark.soak
@pytest.mark.parametrize("point", POINTS)
def test_a_replay_is_killed_anywhere(tmp_path: Path, spark_lake: Cluster, point: str) -> None:
    settings = hooks()
    name, orders = settings["name"], settings["endpoints"]["orders"]
    table = orders["table"]
    lakehouse = on_spark(tmp_path, spark_lake)
    with serving(lakehouse, **settings) as (_, client):
        client.timeout = 120
        for number in range(5):
            assert post(client, f"m{number}", f'{{"no": {number}}}').json() == {"status": "dlq"}
    orders["required"] = []
    fixed = tmp_path / "fixed.yml"
    fixed.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = ("lakebed", "dlq", "replay", str(fixed), "--fail-at", point)
    lakehouse.run(*command, check=False)
    lakebed(lakehouse, "dlq", "replay", str(fixed))
    keys = ask(spark_lake, f"select _key from bronze.{table} order by 1")
    assert keys == [(f"m{number}",) for number in range(5)]
    states = ask(spark_lake, f"select status, attempts from ops.dlq where stream = '{name}'")
    assert states == [("replayed", 2)] * 5


@pytest.mark.soak_on("iceberg")
def test_marks_hold_for_what_was_seen(target: SparkLake) -> None:
    """Two replay at once, or one replays what another discards: nothing comes twice."""
    stream, entity = unique("hooks"), Entity(unique("shop__orders"))
    records = [Record("orders", 0, n, b"k%d" % n, b"{}", [], None) for n in range(3)]
    bad = [Rejected(record, entity.table, "schema", "no id") for record in records]
    with (
        SparkSink(target, stream, [entity], Patience(60), repeatable=False) as one,
        SparkSink(target, stream, [entity], Patience(60), repeatable=False) as two,
    ):
        one.write({}, bad, {("orders", 0): (None, 3)})

        def marks() -> list[Mark]:
            rows = one.query(
                "select dlq_id, first_seen, attempts, 'replayed', category, reason from ops.dlq"
                " where stream = ? order by position",
                [stream],
            )
            return [Mark(*row) for row in rows]

        seen = marks()
        two._held()
        one.write({entity: records[:1]}, [], {}, marks=seen[:1])
        with pytest.raises(Fenced):
            two.write({entity: records[:1]}, [], {}, marks=seen[:1])
        two.execute(
            "update ops.dlq set status = 'discarded', resolved_at = ? where dlq_id = ?",
            [utc_now(), seen[1].dlq_id],
        )
        with pytest.raises(Fenced):
            one.write({entity: records[1:2]}, [], {}, marks=seen[1:2])
        # The last batch once more, by one that does not know of it: it changes nothing.
        two._delivered = None
        two._held()
        again = marks()
        assert [(mark.attempts, mark.dlq_id) for mark in again] == [
            (2 if n == 0 else 1, mark.dlq_id) for n, mark in enumerate(seen)
        ]
        rows = two.query(f"select _key, _offset from bronze.{entity.table}")
        assert rows == [("k0", 0)]


@pytest.mark.soak_on("iceberg")
def test_devices(tmp_path: Path, spark_lake: Cluster) -> None:
    name, table = unique("edge"), unique("edge__pumps")
    pumps = {"table": table, "secret": EDGE_SECRET, "required": ["id"]}
    settings = {"name": name, "endpoints": {"pumps": pumps}, "patience": 60}

    def batch(first: int, bodies: list[bytes]) -> bytes:
        data, link = b"", NO_LINK
        for number, body in enumerate(bodies):
            framed, link = frame(link, first + number, 0, body)
            data += framed
        values = {"device": "d", "epoch": "0" * 16, "start": 0, "missing_from": 0, "sent_at": 0}
        ends = {"first": first, "end": first + len(bodies), "before": NO_LINK}
        return pack(Batch(data=data, **ends, **values))  # type: ignore[arg-type]

    whole = batch(0, [b'{"id": 0}', b'{"no": 1}', b'{"id": 2}'])
    with serving_gateway(on_spark(tmp_path, spark_lake), **settings) as gateway:
        said = gateway.post(whole).json()
        assert (said["next"], said["stored"], said["dlq"]) == (3, 2, 1)
        again = gateway.post(whole).json()
        assert (again["next"], again["stored"], again["duplicates"]) == (3, 0, 3)
        gateway.stop(signal.SIGKILL)
        gateway.start()
        assert gateway.post(whole).json()["stored"] == 0
    assert ask(spark_lake, f"select _key, _offset from bronze.{table} order by 2") == [
        ("d", 0),
        ("d", 2),
    ]


@pytest.mark.soak_on("iceberg")
def test_pulls(tmp_path: Path, spark_lake: Cluster) -> None:
    name, table = unique("shop"), unique("shop__orders")
    with serving_api(Api([order(number) for number in range(25)])) as api:
        pull = Pull(
            on_spark(tmp_path, spark_lake),
            api,
            "timestamp",
            name=name,
            retry=60,
            resource={"table": table, "required": ["price"]},
        )
        pull.run("--fail-at", "positions-moved:2", code=-signal.SIGKILL)
        api.rows[7]["price"] = 2.5  # a record that was read, and has changed
        api.rows += [{"id": 99, "at": "2024-01-01T00:30:00.000000Z"}, order(120)]
        assert "1 to the DLQ" in pull.run()
        assert "0 rows, 0 to the DLQ" in pull.run()
    rows = ask(spark_lake, f"select cast(_key as int), _record, _sent_at from bronze.{table}")
    assert sorted(row[0] for row in rows) == sorted([*range(25), 120])
    assert len(rows) == len({row[0] for row in rows})


@pytest.mark.soak_on("iceberg")
def test_capture(tmp_path: Path, spark_lake: Cluster, source: Postgres) -> None:
    name, table = unique("shop"), unique("shop__items")
    capturing = Capturing(tmp_path, source, name=name, tables={"app.items": table})
    capturing.lakehouse.env |= on_spark(tmp_path, spark_lake).env
    source.execute("insert into app.items select n, 'ü' || n, n from generate_series(1, 9) n")
    capturing.run()
    source.execute(
        "update app.items set price = 1 where id < 4", "delete from app.items where id > 8"
    )
    capturing.run("--fail-at", "positions-moved", code=-signal.SIGKILL)
    source.execute("update app.items set id = 100 where id = 8", "insert into app.items values (9)")
    capturing.run()
    events = ask(spark_lake, f"select _offset, _record from bronze.{table} order by _offset")
    assert len(events) == len(set(events)) == 9 + 3 + 1 + 2 + 1
    held: dict[int, tuple[Any, ...]] = {}
    for event in (json.loads(record) for _, record in events):
        if event["op"] == "d":
            del held[event["before"]["id"]]
        else:
            after = event["after"]
            assert event["op"] != "c" or after["id"] not in held, "inserted twice"
            held[after["id"]] = (after["name"], after["price"])
    assert held == items(source)


@pytest.mark.soak_on("iceberg")
def test_circuits(target: SparkLake, tmp_path: Path, spark_lake: Cluster, clock: Clock) -> None:
    service, dependency = Service(), unique("service")
    with (
        SparkSink(target, "any", [], Patience(60)) as first,
        SparkSink(target, "any", [], Patience(60)) as second,
    ):
        one, two = (Breaker(sink, dependency, Fuse(2, 30)) for sink in (first, second))
        refused(one, service)
        refused(one, service)
        assert "left alone" in str(refused(two, service))
        (found,) = (each for each in circuits(target) if each.dependency == dependency)
        assert (found.state, found.failures, found.reason) == ("open", 2, "it is down")
        # When the rest is over one of them is the probe, and only one.
        clock.wait(30)
        calls, started = service.calls, threading.Barrier(2)

        def probe(breaker: Breaker) -> str:
            started.wait()
            return str(refused(breaker, service))

        with ThreadPoolExecutor(2) as pool:
            said = list(pool.map(probe, (one, two)))
        assert said.count("it is down") == 1, said
        assert service.calls == calls + 1
        clock.wait(30)
        service.up = True
        assert two.call(service) == "done"
        assert one.call(service) == "done"
    listed = lakebed(on_spark(tmp_path, spark_lake), "breakers")
    assert f"{dependency}: closed, 0 failures" in listed


@pytest.mark.soak_on("iceberg")
def test_regions_into_one(tmp_path: Path, spark_lake: Cluster) -> None:
    """The same rows as in a centre on DuckLake; killed when a batch was accepted; two at once."""
    eu, us = Region(tmp_path, "eu"), Region(tmp_path, "us")
    for batch in (1, 2):
        eu.add(batch, 5)
        us.add(batch, 3)
    centres = []
    table = unique("web__orders")
    for name in ("spark", "duckdb"):
        (tmp_path / name).mkdir()
        home = tmp_path / name
        centre = Centre(on_spark(home, spark_lake) if name == "spark" else Lakehouse(home), eu, us)
        shipment = {"from": "bronze.web__orders", "columns": dict(COLUMNS)}
        centre.content |= {"name": unique("global"), "tables": {table: shipment}}
        centre.write()
        centres.append(centre)
    spark, duckdb = centres
    assert f"eu/{table}: would bring 10 rows, 2 batches up to 2." in spark.run(command="plan")
    spark.run("--fail-at", "positions-moved", "--rows", "5", code=-signal.SIGKILL)
    assert f"eu/{table}: brought 5 rows, 1 batches up to 2." in spark.run("--rows", "5")
    assert spark.run(command="status").count(" 2 ") == 2

    # A column that is new, in two processes at once.
    eu.alter("alter table r.bronze.web__orders add column passport varchar")
    us.alter("alter table r.bronze.web__orders add column passport varchar")
    eu.alter("update r.bronze.web__orders set passport = 'L01X00T47', _batch_id = 3")
    assert "passport" in spark.run(code=1)
    for centre in centres:
        centre.content["tables"][table]["columns"]["passport"] = "mask"
        centre.write()
    both = [spark.start("--patience", "60") for _ in range(2)]
    for each in both:
        output = each.communicate(timeout=300)[0]
        assert each.returncode == 0, output
    duckdb.run()
    columns = "region, _offset, _key, _record, email, born, ip, passport"
    query = f"select {columns} from bronze.{table} where _region_batch_id"
    spark_rows, duckdb_rows = (
        ask(spark_lake, f"{query} = 3"),
        duckdb.lakehouse.query(f"{query} = 3"),
    )
    assert sorted(map(repr, spark_rows)) == sorted(map(repr, duckdb_rows))
    assert {row[7] for row in spark_rows} == {masked("L01X00T47")}
    first = ask(spark_lake, f"select region, _offset from bronze.{table} where passport is null")
    assert sorted(first) == everything(eu, us)
