"""Streams into a lake on Spark: each record once, as on DuckLake, whoever is killed whenever."""

from __future__ import annotations

import random
import signal
import subprocess
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from broker import Broker
from lakebed.ingest.faults import POINTS, Faults
from lakebed.ingest.patience import Patience, TryLater
from lakebed.ingest.records import Entity, Record, Rejected
from lakebed.ingest.sink import FENCE, Fenced
from lakebed.ingest.tables import bronze_rows, utc_now
from lakebed.project import SparkLake
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session
from lakebed.spark.sink import SparkSink
from lakehouse import Lakehouse
from streams import Stream, everything, send

pytestmark = pytest.mark.spark
PROVES = ["pat-exactly-once-transactional-sinks", "pat-streaming-ingest"]

PLACE = "_topic, _topic_partition, _offset"
ROWS = f"select {PLACE}, _key, _record, _headers, _sent_at, _batch_id from bronze.{{}} order by 3"
REFUSED = (
    "select dlq_id, target_table, topic, partition, position, record_key, record_value, headers,"
    " sent_at, category, reason, attempts, status from ops.dlq where stream = '{}' order by 1"
)


@dataclass
class SparkStream(Stream):
    """A stream into a lake on Spark; its table and its name are its own."""

    cluster: Cluster = field(kw_only=True)

    def __post_init__(self) -> None:
        self.lakehouse.env |= {**self.cluster.environment, "LAKEBED_TARGET": "spark"}

    @property
    def table(self) -> str:
        (topic,) = self.topics.values()
        return str(topic if isinstance(topic, str) else topic["table"])

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with connect_session(self.cluster.connect_url) as session:
            return [tuple(row) for row in session.sql(sql).collect()]

    def sent(self) -> list[tuple[str, int, int]]:
        rows = self.query(
            f"select {PLACE} from bronze.{self.table} union all"
            f" select topic, partition, position from ops.dlq where stream = '{self.name}'"
        )
        return sorted(rows)  # type: ignore[arg-type]


def unique(name: str) -> str:
    return f"{name}_{uuid.uuid4().hex[:8]}"


def into_spark(
    home: Path, broker: Broker, cluster: Cluster, topic: str, **settings: Any
) -> SparkStream:
    table = unique("web__clicks")
    topics = {topic: {"table": table, "required": ["id"]}}
    return SparkStream(
        Lakehouse(home), broker, topics, unique("web"), settings=settings, cluster=cluster
    )


@pytest.mark.soak_on("iceberg")
def test_the_same_rows_as_on_ducklake(tmp_path: Path, broker: Broker, spark_lake: Cluster) -> None:
    clicks = broker.topic("clicks", 1)
    bodies: list[bytes | None] = [
        *(f'{{"id": {number}, "é": "漢 {number}"}}'.encode() for number in range(50)),
        *(b"{broken", b"\xff\xfe", b'{"id": null}', None, b'{"id": 1e400}', b""),
    ]
    keys: list[bytes | None] = [b"k", None, "ü".encode(), b"\xff"]
    send(broker, clicks, [(keys[n % 4], body) for n, body in enumerate(bodies)])
    send(broker, clicks, [("h", '{"id": 7}')], headers=[("a", b"1"), ("a", None), ("b", b"\xfe")])
    spark = into_spark(tmp_path / "spark", broker, spark_lake, clicks)
    duck = Stream(Lakehouse(tmp_path / "duck"), broker, spark.topics, spark.name)
    duck.lakehouse.home.mkdir()
    spark.lakehouse.home.mkdir()
    assert spark.run().splitlines()[0] == duck.run().splitlines()[0]
    for query in (ROWS.format(spark.table), REFUSED.format(spark.name)):
        found = [
            tuple(bytes(v) if isinstance(v, bytearray) else v for v in row)
            for row in spark.query(query)
        ]
        assert found == duck.lakehouse.query(query)
        assert len(found) > 3
    assert "0 rows" in spark.run()

    # What comes later is a batch of its own, and a table of somebody else's is left alone.
    send(broker, clicks, [("k", '{"id": 8}')])
    assert "1 rows" in spark.run()
    assert spark.query(f"select max(_batch_id) from bronze.{spark.table}") == [(3,)]
    with connect_session(spark_lake.connect_url) as session:
        session.sql(f"create table bronze.{spark.table}_x (id int) using {spark_lake.table_format}")
    spark.topics = {clicks: f"{spark.table}_x"}
    assert "is not one of `lakebed stream`: it has no _source" in spark.run(code=1)


@pytest.mark.soak_on("iceberg")
def test_killed_at_each_step(tmp_path: Path, broker: Broker, spark_lake: Cluster) -> None:
    clicks = broker.topic("clicks", 2)
    spark = into_spark(tmp_path, broker, spark_lake, clicks, batch={"rows": 40})
    for number, point in enumerate(POINTS):
        bodies = [f'{{"id": {n}}}' if n % 5 else "{broken" for n in range(60)]
        send(broker, clicks, [(str(n), body) for n, body in enumerate(bodies)])
        spark.run("--fail-at", f"{point}:{1 + number % 2}", code=-signal.SIGKILL)
    spark.run()
    assert spark.sent() == everything(broker, clicks)
    assert spark.query(f"select count(distinct _batch_id) > 5 from bronze.{spark.table}")[0][0]


@pytest.mark.soak
def test_two_at_once(tmp_path: Path, broker: Broker, spark_lake: Cluster) -> None:
    """In different groups both read every record, and one of them is fenced off."""
    clicks = broker.topic("clicks", 2)
    send(broker, clicks, [(str(n), f'{{"id": {n}}}') for n in range(150)])
    spark = into_spark(tmp_path, broker, spark_lake, clicks, batch={"rows": 50})
    running = []
    for group in ("one", "two"):
        spark.kafka = {"group.id": f"{spark.name}-{group}"}
        running.append(spark.start("--once"))
    outputs = [process.communicate(timeout=240)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0], outputs
    assert spark.sent() == everything(broker, clicks)


class Dead(Exception):
    """Instead of a kill, for a process that is to come back."""


class Stops(Faults):
    def __init__(self, point: str) -> None:
        super().__init__()
        self.point = point

    def reach(self, point: str) -> None:
        if point == self.point:
            raise Dead


def record(number: int) -> Record:
    return Record("clicks", 0, number, b"k", b'{"id": %d}' % number, [], 1_700_000_000_000)


@pytest.mark.parametrize(
    "point", ["positions-moved", pytest.param("rows-written", marks=pytest.mark.soak)]
)
def test_the_next_one_delivers_what_was_accepted(
    spark_lake: Cluster, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    """And the first one, when it wakes, brings nothing a second time."""
    for name, value in spark_lake.environment.items():
        monkeypatch.setenv(name, value)
    stream, entity = unique("web"), Entity(unique("web__clicks"))
    target = SparkLake("spark", {"type": "spark", "method": "thrift"})
    impatient = Patience(60)
    bad = Rejected(record(2), entity.table, "malformed", "not JSON")
    with (
        SparkSink(target, stream, [entity], impatient, Stops(point)) as first,
        SparkSink(target, stream, [entity], impatient) as second,
    ):
        assert first.positions() == second.positions() == {}
        with pytest.raises(Dead):
            first.write({entity: [record(0), record(1)]}, [bad], {("clicks", 0): (None, 3)})
        assert second.positions() == {("clicks", 0): 3}
        second.write({entity: [record(3)]}, [], {("clicks", 0): (3, 4)})

        first.faults = Faults()
        held = first._held()
        assert held["clicks", 0][0] == 4
        first._delivered = None
        app = held[FENCE, 0][1]
        for batch in (1, 2):  # both again
            rows = [record(0), record(1)] if batch == 1 else [record(3)]
            table = bronze_rows(stream, entity, rows, batch, utc_now())
            first._deliver(batch, app, {f"bronze.{entity.table}": table})
        with pytest.raises(Fenced):
            first.write({entity: [record(3)]}, [], {("clicks", 0): (3, 5)})
        first.write({entity: [record(3)]}, [], {("clicks", 0): (3, 4)})  # its answer was lost
        found = first._session.table(f"bronze.{entity.table}").select("_offset", "_batch_id")
        assert sorted(map(tuple, found.collect())) == [(0, 1), (1, 1), (3, 2)]
        refused = first._session.sql(f"select position from ops.dlq where stream = '{stream}'")
        assert list(map(tuple, refused.collect())) == [(2,)]

        # Positions that somebody dropped: batches count on, and are not taken for old ones.
        first._session.sql(f"drop table ops.positions__{stream}")
        first._close()
        second._close()
        assert first.positions() == {}
        first.write({entity: [record(9)]}, [], {("clicks", 0): (None, 10)})
        found = first._session.table(f"bronze.{entity.table}").select("_offset", "_batch_id")
        assert (9, 3) in map(tuple, found.collect())


def test_many_deliver_one_batch_at_once(
    spark_lake: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As processes do that start when one has died. And one that wakes up when the stream has gone
    on and an erasure has been there, brings nothing back."""
    for name, value in spark_lake.environment.items():
        monkeypatch.setenv(name, value)
    stream, entity = unique("web"), Entity(unique("web__clicks"))
    table = f"bronze.{entity.table}"
    target = SparkLake("spark", {"type": "spark", "method": "thrift"})
    bad = Rejected(record(2), entity.table, "malformed", "not JSON")
    with ExitStack() as opened:
        sinks = [
            opened.enter_context(SparkSink(target, stream, [entity], Patience(120)))
            for _ in range(4)
        ]
        sinks[0].faults = Stops("positions-moved")
        sinks[0].positions()
        with pytest.raises(Dead):
            sinks[0].write({entity: [record(0), record(1)]}, [bad], {("clicks", 0): (None, 3)})
        sinks[0].faults = Faults()
        started = threading.Barrier(len(sinks))

        def deliver(sink: SparkSink) -> None:
            sink._begin_session()
            started.wait()
            sink.positions()

        with ThreadPoolExecutor(len(sinks)) as pool:
            list(pool.map(deliver, sinks))
        assert sinks[0].query(f"select _offset from {table} order by 1") == [(0,), (1,)]
        refused = f"select position from ops.dlq where stream = '{stream}'"
        assert sinks[0].query(refused) == [(2,)]

        rows = bronze_rows(stream, entity, [record(0), record(1)], 1, utc_now())
        _, app = sinks[0]._held()[FENCE, 0]
        sinks[1].write({entity: [record(3)]}, [], {("clicks", 0): (3, 4)})
        sinks[1].execute(f"delete from {table} where _offset = 0 or _offset = 1")
        sinks[0]._deliver(1, app, {table: rows})
        assert sinks[0].query(f"select _offset from {table}") == [(3,)]


@pytest.mark.soak_on("iceberg")
def test_a_column_that_another_writer_has_added_is_tried_anew(
    spark_lake: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in spark_lake.environment.items():
        monkeypatch.setenv(name, value)
    table = f"ops.grown_{uuid.uuid4().hex[:8]}"
    target = SparkLake("spark", {"type": "spark", "method": "thrift"})
    with SparkSink(target, "", [], Patience(1)) as sink:
        sink.create(table, {"id": "bigint"})
        add = f"alter table {table} add columns (passport string)"
        sink.query(add)
        with pytest.raises(TryLater, match="Another writer was faster"):
            sink.query(add)


def test_nobody_answers(
    tmp_path: Path, broker: Broker, cluster: Cluster, iceberg_cluster: Cluster
) -> None:
    clicks = broker.topic("clicks")
    spark = into_spark(tmp_path, broker, cluster, clicks)
    spark.lakehouse.env["LAKEBED_SPARK_CONNECT"] = "sc://127.0.0.1:9"
    last = spark.run("--patience", "1", code=1).splitlines()[-1]
    assert last.startswith("Error: No Spark Connect answers at 127.0.0.1:9 (")
    spark.lakehouse.env |= {**iceberg_cluster.environment, "LAKEBED_TABLE_FORMAT": "delta"}
    assert "The cluster holds iceberg tables, and the build is for delta" in spark.run(code=1)


@pytest.mark.soak
def test_in_a_session(spark: None, tmp_path: Path, broker: Broker) -> None:  # noqa: ARG001
    clicks = broker.topic("clicks")
    send(broker, clicks, [("k", '{"id": 1}'), ("k", "{broken")])
    env = {"LAKEBED_TARGET": "spark_local"}
    stream = Stream(Lakehouse(tmp_path, env), broker, {clicks: "web__clicks"})
    assert "1 rows, 1 to the DLQ, 1 batches." in stream.run()
    assert "0 rows, 0 to the DLQ, 0 batches." in stream.run()
    refused = stream.run("--build", "run", code=1)
    assert "its models cannot be built beside it" in refused.splitlines()[-1]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_random(tmp_path: Path, broker: Broker, spark_lake: Cluster) -> None:
    clicks = broker.topic("clicks", 3)
    spark = into_spark(tmp_path, broker, spark_lake, clicks, batch={"rows": 20, "age": 0.2})
    rng = random.Random(11)
    for _ in range(60):
        send(broker, clicks, [(str(rng.random()), f'{{"id": {n}}}') for n in range(30)])
        process = spark.start("--fail-at", f"random:{rng.randrange(10**6)}:0.05")
        try:
            process.wait(rng.uniform(4, 12))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        process.communicate()
    spark.run()
    assert spark.sent() == everything(broker, clicks)
