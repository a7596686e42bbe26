"""Kafka into the lake, exactly once: against a consumer that throws away, a loop by hand that may
lose or repeat, dlt, and Spark Structured Streaming. And what a commit of a few rows costs.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import duckdb
import yaml
from confluent_kafka import Consumer, Producer, TopicPartition
from lakebed.errors import UserError
from lakebed.ingest.records import Entity, Record
from lakebed.ingest.sink import Sink
from lakebed.project import Lake
from lakebed.sample.postgres import Server
from lakebed.spark.jars import fetch, fetch_packages

from benchmarks.measure import REPO, Result, Variant, environment, run

sys.path.append(str(REPO / "python" / "tests"))
from broker import Broker

RECORDS, PARTITIONS = 1_000_000, 4
#: Records a second, each for so many seconds.
RATES, SECONDS = (1_000, 10_000, 50_000), 30
COMMITS, ROWS = 1_000, 10
SPARK_KAFKA = ("org.apache.spark:spark-sql-kafka-0-10_2.13:4.0.2",)


def record(number: int) -> bytes:
    return json.dumps(
        {
            "id": number,
            "user": f"user-{number % 50_000}",
            "page": f"/products/{number % 1_000}",
            "sent_ns": time.time_ns(),
            "agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
        }
    ).encode()


@contextmanager
def kafka(home: Path) -> Iterator[Broker]:
    broker = Broker(home / "kafka")
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


def produce(broker: Broker, topic: str, rate: int | None, count: int) -> None:
    """`count` records, at `rate` a second if there is one."""
    producer = Producer({"bootstrap.servers": broker.servers, "linger.ms": 5, "acks": 1})
    start = time.perf_counter()
    for number in range(count):
        while True:
            try:
                producer.produce(topic, record(number), partition=number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.01)
        if number % 500 == 0:
            producer.poll(0)
            if rate and (ahead := number / rate - (time.perf_counter() - start)) > 0:
                time.sleep(ahead)
    producer.flush()


def spent(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of the processor of what it starts and of this process."""

    def used() -> float:
        return sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )

    start, before = time.perf_counter(), used()
    work()
    return round(time.perf_counter() - start, 2), round(used() - before, 2)


def consumer(broker: Broker) -> Consumer:
    return Consumer({"bootstrap.servers": broker.servers, "group.id": "raw"})


def raw(broker: Broker, topic: str, batch: Callable[[list[bytes]], object]) -> None:
    """Read the topic in the largest batches that librdkafka gives."""
    reader = consumer(broker)
    reader.assign([TopicPartition(topic, part, 0) for part in range(PARTITIONS)])
    left = RECORDS
    while left:
        found = reader.consume(min(50_000, left), 1.0)
        batch([message.value() or b"" for message in found])
        left -= len(found)
    reader.close()


def by_hand(broker: Broker, topic: str, home: Path) -> None:
    """A loop that appends batches to a table of DuckDB; killed, it loses or repeats one."""
    import pyarrow as pa

    with duckdb.connect(str(home / "by_hand.duckdb")) as connection:
        connection.execute("create table clicks (record varchar)")

        def append(values: list[bytes]) -> None:
            batch = pa.table({"record": pa.array([value.decode() for value in values])})
            connection.register("batch", batch)
            connection.execute("insert into clicks from batch")

        raw(broker, topic, append)


SPARK = """
import json
import sys
from pyspark.sql import SparkSession

jars, home, source, options, query = sys.argv[1:]
spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.jars", jars).config("spark.driver.memory", "3g")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    .config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", "2")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
(
    spark.readStream.format(source).options(**json.loads(options)).load()
    .selectExpr(*query.split("; "))
    .writeStream.format("delta").option("checkpointLocation", home + "/checkpoint")
    .trigger(availableNow=True).start(home + "/clicks").awaitTermination()
)
print(spark.read.format("delta").load(home + "/clicks").count())
"""


def structured(home: Path, more: Sequence[Path], source: str, query: str, **options: str) -> None:
    """Structured Streaming to Delta, in batches of 200,000."""
    jars = {jar.name: str(jar) for jar in [*fetch("delta"), *more]}
    arguments = [",".join(jars.values()), str(home), source, json.dumps(options), query]
    done = subprocess.run(
        [sys.executable, "-c", SPARK, *arguments], capture_output=True, text=True, check=False
    )
    if done.stdout.strip() != str(RECORDS):
        raise RuntimeError(done.stdout[-500:] + done.stderr[-2000:])


def structured_kafka(broker: Broker, topic: str, home: Path, jars: Sequence[Path]) -> None:
    structured(
        home,
        jars,
        "kafka",
        "topic; partition; offset; cast(value as string) as record",
        subscribe=topic,
        startingOffsets="earliest",
        maxOffsetsPerTrigger="200000",
        **{"kafka.bootstrap.servers": broker.servers},
    )


def structured_files(home: Path) -> None:
    structured(
        home,
        [],
        "text",
        "_metadata.file_name as topic; value as record",
        path=str(home / "files"),
        maxFilesPerTrigger="4",
    )


def spark_ways(broker: Broker, topic: str, home: Path) -> dict[str, Callable[[], object]]:
    """From Kafka where Spark's source of it can be had; else of the same records in files, which
    spares Spark the broker."""
    name = "Spark Structured Streaming to Delta"
    try:
        jars = fetch_packages(SPARK_KAFKA, "Spark's Kafka source")
    except UserError:
        (home / "files").mkdir(parents=True)
        for part in range(20):
            lines = (record(n) + b"\n" for n in range(part, RECORDS, 20))
            (home / "files" / f"{part}.txt").write_bytes(b"".join(lines))
        return {f"{name}, from files": lambda: structured_files(home)}
    return {name: lambda: structured_kafka(broker, topic, home, jars)}


DLT = """
import sys
import dlt
from confluent_kafka import Consumer, TopicPartition

servers, topic, home, count, partitions = *sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5])

@dlt.resource(write_disposition="append")
def clicks():
    reader = Consumer({"bootstrap.servers": servers, "group.id": "dlt"})
    reader.assign([TopicPartition(topic, part, 0) for part in range(partitions)])
    read, offsets = 0, dlt.current.resource_state().setdefault("offsets", {})
    while read < count:
        batch = reader.consume(3000, 3)
        for message in batch:
            offsets[str(message.partition())] = message.offset()
        read += len(batch)
        yield [
            {
                "topic": message.topic(), "partition": message.partition(),
                "position": message.offset(), "sent_at": message.timestamp()[1],
                "record": message.value().decode(),
            }
            for message in batch
        ]
    reader.close()

pipeline = dlt.pipeline(
    "clicks", pipelines_dir=home + "/pipelines",
    destination=dlt.destinations.duckdb(home + "/dlt.duckdb"), dataset_name="bronze",
)
pipeline.run(clicks())
with pipeline.sql_client() as client:
    print(client.execute_sql("select count(*) from clicks")[0][0])
"""


def dlt(broker: Broker, topic: str, home: Path) -> None:
    """As dlt's own source of Kafka: batches of 3,000, offsets in the state of the pipeline."""
    home.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-c", DLT, broker.servers, topic, str(home)),
            *(str(RECORDS), str(PARTITIONS)),
        ],
        env={**os.environ, "RUNTIME__DLTHUB_TELEMETRY": "false", "DLT_PROJECT_DIR": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout.strip() != str(RECORDS):
        raise RuntimeError(done.stdout[-500:] + done.stderr[-2000:])


def stream_file(home: Path, broker: Broker, topic: str, **settings: object) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    content = {
        "name": "web",
        "kafka": {"bootstrap.servers": broker.servers},
        "topics": {topic: {"table": "web__clicks"}},
        **settings,
    }
    file = home / "web.yml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def throughput(home: Path, broker: Broker) -> list[Variant]:
    """The same million records, by each."""
    topic = broker.topic("clicks", PARTITIONS)
    produce(broker, topic, None, RECORDS)
    ours = home / "ours"
    file = stream_file(ours, broker, topic)
    on_spark = ("lakebed", "stream", "--once", "--target", "spark_local")
    ways: dict[str, Callable[[], object]] = {
        "librdkafka, thrown away": lambda: raw(broker, topic, len),
        "a loop by hand into DuckDB": lambda: by_hand(broker, topic, home),
        "lakebed stream, exactly once": lambda: run(ours, "lakebed", "stream", "--once", str(file)),
        "the same again, with nothing to read": lambda: run(
            ours, "lakebed", "stream", "--once", str(file)
        ),
        "dlt to DuckDB": lambda: dlt(broker, topic, home / "dlt"),
        "lakebed stream to Delta on Spark": lambda: run(
            home / "delta",
            *on_spark,
            str(stream_file(home / "delta", broker, topic, batch={"rows": 200_000})),
        ),
        **spark_ways(broker, topic, home / "spark"),
    }
    found = {name: spent(way) for name, way in ways.items()}
    with lake(ours).connect() as connection:
        assert connection.execute(
            "select count(*), count(distinct (_topic_partition, _offset)) from bronze.web__clicks"
        ).fetchall() == [(RECORDS, RECORDS)]
    base = found["lakebed stream, exactly once"][0]
    return [
        Variant(name, [seconds], round(seconds / base, 2), note(name, seconds, cpu))
        for name, (seconds, cpu) in found.items()
    ]


def note(name: str, seconds: float, cpu: float) -> str:
    used = [] if "Spark" in name else [f"{cpu:.1f} s of the processor"]  # a JVM's are not counted
    rate = [] if "nothing" in name else [f"{RECORDS / seconds:,.0f} records a second"]
    return ", ".join([*used, *rate])


def lake(home: Path) -> Lake:
    return Lake("local", f"ducklake:{home}/lake/catalog.ducklake", "lakebed")


@contextmanager
def team(home: Path, inlined: bool = False) -> Iterator[tuple[Lake, dict[str, str]]]:
    """A lake whose catalogue is a PostgreSQL of its own, and the environment that says so; unless
    `inlined`, with files for all rows, as profiles.yml has it."""
    home.mkdir(parents=True, exist_ok=True)
    server = Server(home / "pg")
    server.start()
    try:
        env = environment(home) | {"LAKEBED_TARGET": "team", "LAKEBED_POSTGRES": server.url}
        data = {"data_path": f"{home}/lake/files/"}
        data |= {} if inlined else {"data_inlining_row_limit": "0"}
        yield Lake("team", f"ducklake:postgres:{server.url}", "lakebed", data), env
    finally:
        server.stop()


def produced(broker: Broker, topic: str, rate: int, count: int) -> subprocess.Popen[bytes]:
    """`produce` in a process of its own."""
    script = (
        "from pathlib import Path; from benchmarks.stream import Broker, produce;"
        f"produce(Broker(Path(), {broker.port}), {topic!r}, {rate}, {count})"
    )
    env = {**os.environ, "PYTHONPATH": str(REPO / "python")}
    return subprocess.Popen([sys.executable, "-c", script], env=env)


def lag(home: Path, broker: Broker, rate: int) -> Variant:
    """Seconds from when a record is made until a query finds it, of a sample of each batch. On
    `team`: on `local` nobody reads while a stream writes."""
    topic = broker.topic("clicks", PARTITIONS)
    file = stream_file(home, broker, topic, batch={"age": 0.5})
    count, found = rate * SECONDS, list[float]()
    produce(broker, topic, None, PARTITIONS)  # makes the tables, and is not counted
    with team(home) as (held, env), (home / "log").open("w") as log:
        once = ["lakebed", "stream", "--once", str(file)]
        subprocess.run(once, cwd=REPO, env=env, stdout=log, stderr=log, check=True)
        command = ["lakebed", "stream", str(file)]
        streaming = subprocess.Popen(command, cwd=REPO, env=env, stdout=log, stderr=log)
        time.sleep(5)  # it starts
        making = produced(broker, topic, rate, count)
        try:
            with held.connect() as connection:
                seen, batch, patience = 0, 1, time.monotonic() + 5 * SECONDS
                while seen < count and time.monotonic() < patience:
                    rows = connection.execute(
                        "select _batch_id, cast(_record ->> 'sent_ns' as bigint), count(*) over ()"
                        " from bronze.web__clicks where _batch_id > ? qualify row_number() over"
                        " (partition by _batch_id order by hash(_offset)) <= 500",
                        [batch],
                    ).fetchall()
                    now = time.time_ns()
                    if rows:
                        found += [(now - sent) / 1e9 for _, sent, _ in rows]
                        seen, batch = seen + rows[0][2], max(row[0] for row in rows)
                    time.sleep(0.05)
        finally:
            making.wait()
            streaming.terminate()
            streaming.wait()
    cuts = quantiles(found, n=100)
    late = "" if seen >= count else f"; it fell behind, {seen:,} of {count:,} came in time"
    note = f"p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s, p99 {cuts[98]:.2f} s{late}"
    return Variant(f"to a query, {rate:,} a second", [round(cuts[94], 2)], 0.0, note)


def commits(home: Path) -> list[Variant]:
    """Batches of a few rows, each with its positions in one commit, and the rows alone by hand."""
    entity = Entity("web__clicks")

    def ours(held: Lake) -> float:
        with Sink(held, "web", [entity]) as sink:
            place, at = ("clicks", 0), None
            sink.positions()
            start = time.perf_counter()
            for batch in range(COMMITS):
                offsets = range(batch * ROWS, (batch + 1) * ROWS)
                records = [Record("clicks", 0, n, b"k", record(n), [], None) for n in offsets]
                sink.write({entity: records}, [], {place: (at, batch * ROWS + ROWS)})
                at = batch * ROWS + ROWS
            return time.perf_counter() - start

    def by_hand(held: Lake) -> float:
        with duckdb.connect() as connection:
            held.prepare(connection)
            held.attach(connection)
            connection.execute(f"create table {held.alias}.clicks (number bigint, record varchar)")
            start = time.perf_counter()
            for batch in range(COMMITS):
                rows = [[n, record(n).decode()] for n in range(batch * ROWS, (batch + 1) * ROWS)]
                connection.execute(
                    f"insert into {held.alias}.clicks values {', '.join(['(?, ?)'] * ROWS)}",
                    [value for row in rows for value in row],
                )
            return time.perf_counter() - start

    seconds = {}
    for inlined, said in ((False, "files"), (True, "inlined")):
        for name, way in (("", ours), (", by hand without positions", by_hand)):
            with team(home / f"team-{said}-{len(name)}", inlined) as (shared, _):
                seconds[f"team (PostgreSQL), {said}{name}"] = round(way(shared), 2)
    seconds["local (a file), inlined"] = round(ours(lake(home / "local")), 2)
    base = next(iter(seconds.values()))
    return [
        Variant(
            f"{COMMITS:,} commits of {ROWS} rows: {name}",
            [spent],
            round(spent / base, 2),
            f"{1000 * spent / COMMITS:.0f} ms a commit",
        )
        for name, spent in seconds.items()
    ]


def measure(home: Path) -> Result:
    with kafka(home) as broker:
        variants = throughput(home, broker)
        variants += [lag(home / f"rate{rate}", broker, rate) for rate in RATES]
    variants += commits(home / "commits")
    return Result(
        "stream", f"{RECORDS:,} records of Kafka into bronze; lag; small commits", variants
    )
