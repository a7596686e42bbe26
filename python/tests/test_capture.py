"""`lakebed capture`: a real PostgreSQL, the Debezium engine, and what is in bronze of it."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
import yaml
from harness import UPSERT_STRATEGY, DbtProject
from lakehouse import Lakehouse
from postgres import Postgres, need_capture
from streams import LAKEBED, ROOT

PROVES = ["pat-cdc-log-based", "pat-exactly-once"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    need_capture()
    postgres = Postgres(tmp_path_factory.mktemp("source") / "pg")
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def source(server: Postgres) -> Iterator[Postgres]:
    """The server, with nothing of another test in it."""
    server.execute(
        "drop schema if exists app cascade",
        "create schema app",
        "create table app.items (id bigint primary key, name text, price numeric(12, 2),"
        " seen_at timestamptz, note text)",
        "alter table app.items replica identity full",
        "create table app.empty (id bigint primary key)",
    )
    yield server
    for (slot,) in server.query("select slot_name from pg_replication_slots"):
        until = time.monotonic() + 20
        while server.query(f"select active from pg_replication_slots where slot_name = '{slot}'")[
            0
        ][0]:
            assert time.monotonic() < until
            time.sleep(0.1)
        server.execute(f"select pg_drop_replication_slot('{slot}')")
    for (name,) in server.query("select pubname from pg_publication"):
        server.execute(f"drop publication {name}")


class Capturing:
    """`lakebed capture` of a source into a lakehouse of its own."""

    def __init__(self, home: Path, source: Postgres, **settings: Any) -> None:
        self.lakehouse = Lakehouse(home)
        self.file = home / "shop.yml"
        content = {
            "name": "shop",
            "postgres": source.url,
            "tables": {"app.items": "shop__items", "app.empty": "shop__empty"},
            "batch": {"age": 0.1},
            **settings,
        }
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*LAKEBED, "capture", str(self.file), *options],
            env=self.lakehouse.environment() | {"DBT_PROJECT_DIR": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str, code: int | None = 0) -> str:
        process = self.start("--once", "--patience", "60", *options)
        try:
            # On a busy machine a snapshot of what came meanwhile takes minutes.
            output, _ = process.communicate(timeout=600)
        finally:
            process.kill()
        assert code is None or process.returncode == code, (process.returncode, output)
        return output

    def events(self) -> list[dict[str, Any]]:
        """What bronze has of the items, in the order of the log."""
        query = "select _record from bronze.shop__items order by _offset"
        for _ in range(100):
            try:
                return [json.loads(record) for (record,) in self.lakehouse.query(query)]
            except duckdb.IOException:  # the capture has the lake open
                time.sleep(0.05)
        raise AssertionError("the lake is never free")

    def table(self) -> dict[int, tuple[Any, ...]]:
        """The items, as the events say they are now."""
        held: dict[int, tuple[Any, ...]] = {}
        for event in self.events():
            before, after = event["before"], event["after"]
            if event["op"] == "t":
                held = {}
            elif event["op"] == "d":
                del held[before["id"]]
            else:
                assert event["op"] in ("r", "u") or after["id"] not in held, "inserted twice"
                held[after["id"]] = (after["name"], after["price"])
        return held


def items(source: Postgres) -> dict[int, tuple[Any, ...]]:
    return {row[0]: row[1:] for row in source.query("select id, name, price::text from app.items")}


@pytest.mark.parametrize(
    ("variable", "options", "said"),
    [
        ("JAVA_TOOL_OPTIONS", "", "shop: 1 rows"),
        ("JAVA_TOOL_OPTIONS", "-XX:+UseZGC", "shop: 1 rows"),
        ("JAVA_TOOL_OPTIONS", "-XX:NoSuchOption=1", "java says: Unrecognized VM option"),
        ("_JAVA_OPTIONS", "-Xms2g", "Java does not start"),  # more than the engine may have
    ],
)
def test_java_is_started_as_its_own_variables_say(
    tmp_path: Path, source: Postgres, variable: str, options: str, said: str
) -> None:
    source.execute("insert into app.items values (1, 'a', 1)")
    capturing = Capturing(tmp_path, source)
    capturing.lakehouse.env["JAVA_TOOL_OPTIONS"] = ""  # the tests' own
    capturing.lakehouse.env[variable] = options
    output = capturing.run(code=0 if said == "shop: 1 rows" else 1)
    assert said in output
    assert "Traceback" not in output


def test_a_snapshot_then_every_change_in_the_order_of_the_log(
    tmp_path: Path, source: Postgres
) -> None:
    long = "x" * 20_000
    source.execute(
        f"insert into app.items values (1, 'ünï', 1.10, '2025-01-01 00:00+02', '{long}')"
    )
    capturing = Capturing(tmp_path, source)
    assert "shop: 1 rows" in capturing.run()
    source.transaction(
        [
            "insert into app.items select i, 'n', i from generate_series(2, 4) as i",
            "update app.items set name = 'new' where id = 1",  # the long note does not change
            "update app.items set id = 20 where id = 2",
            "delete from app.items where id = 3",
        ]
    )
    source.execute("truncate app.items", "insert into app.items values (9, null, null)")
    assert "shop: 9 rows" in capturing.run()
    found = capturing.events()
    assert [event["op"] for event in found] == list("rcccudcdtc")
    assert found[0]["after"]["seen_at"] == "2024-12-31T22:00:00.000000Z"
    update = found[4]
    assert (update["before"]["name"], update["after"]["name"]) == ("ünï", "new")
    assert update["after"]["note"] == long
    assert capturing.table() == items(source) == {9: (None, None)}
    assert "shop: 0 rows" in capturing.run()
    orders = [event["transaction"]["total_order"] for event in found[1:8]]
    assert orders == list(range(1, 8))


def test_rolled_back_and_open_transactions_are_not_there(tmp_path: Path, source: Postgres) -> None:
    capturing = Capturing(tmp_path, source)
    capturing.run()
    with psycopg.connect(source.url) as open_one, psycopg.connect(source.url) as other:
        open_one.execute("insert into app.items values (1, 'open', 1)")
        other.execute("insert into app.items values (2, 'never', 2)")
        other.rollback()
        source.execute("insert into app.items values (3, 'now', 3)")
        capturing.run()
        assert capturing.table() == {3: ("now", "3.00")}
        open_one.commit()
    capturing.run()
    assert capturing.table() == items(source)


def test_a_transaction_that_others_overlap_is_whole(tmp_path: Path, source: Postgres) -> None:
    """Its changes stand before and after the place in the log where capture goes on; one of them,
    most likely, right there."""
    capturing = Capturing(tmp_path, source)
    capturing.run()
    for first in (10_000, 50_000):
        done = threading.Event()

        def write(first: int = first, done: threading.Event = done) -> None:
            number = first
            with psycopg.connect(source.url) as connection:
                while not done.is_set():
                    connection.execute("insert into app.items (id) values (%s)", [number])
                    number += 1
                    time.sleep(0.001)

        writer = threading.Thread(target=write)
        writer.start()
        source.execute(f"insert into app.items values ({first // 10_000}, 'short', 1)")
        capturing.run()
        done.set()
        writer.join()
    capturing.run()
    assert capturing.table() == items(source)
    assert len(items(source)) > 1000


def test_an_idle_database_is_followed_on(tmp_path: Path, source: Postgres) -> None:
    """Its slot keeps no log at all, not even that of the last commit."""
    capturing = Capturing(tmp_path, source)
    capturing.run()
    process = capturing.start()
    kept = "select confirmed_flush_lsn - restart_lsn from pg_replication_slots"
    try:
        for number in range(60):
            insert = f"insert into app.items values ({number}, 'one', 1)"
            source.execute(insert, "select pg_log_standby_snapshot()")
            time.sleep(1)
            if source.query(kept) == [(0,)]:
                break
        assert source.query(kept) == [(0,)], process.poll()
    finally:
        process.kill()
        process.communicate()
    source.execute("insert into app.items values (-2, 'two', 2)")
    capturing.run()
    assert capturing.table() == items(source)


class Application(threading.Thread):
    """Changes the items until it is stopped; several work side by side."""

    def __init__(self, source: Postgres, seed: int) -> None:
        super().__init__(daemon=True)
        self.source, self.dice, self.stop = source, random.Random(seed), threading.Event()
        self.first = seed * 10**12

    def run(self) -> None:
        number = self.first
        with psycopg.connect(self.source.url) as connection:
            while not self.stop.is_set():
                with connection.transaction():
                    for _ in range(self.dice.randint(1, 4)):
                        number += 1
                        kind = self.dice.random()
                        if kind < 0.5:
                            many = self.dice.choice([1, 1, 1, 1, 80])
                            connection.execute(
                                "insert into app.items select %s + i * 100000, 'new', i"
                                " from generate_series(1, %s) as i",
                                (number, many),
                            )
                        elif kind < 0.75:
                            connection.execute(
                                "update app.items set price = coalesce(price, 0) + 1 where id in"
                                " (select id from app.items order by random() limit 3"
                                " for update skip locked)"
                            )
                        elif kind < 0.9:
                            connection.execute(
                                "delete from app.items where id in"
                                " (select id from app.items order by random() limit 2"
                                " for update skip locked)"
                            )
                        else:
                            connection.execute(
                                "update app.items set id = id + 10000000000 where id ="
                                " (select id from app.items order by id limit 1"
                                " for update skip locked)"
                            )
                time.sleep(0.1)  # slower than a capture that commits few rows at a time


def assert_each_once(capturing: Capturing, source: Postgres) -> None:
    assert capturing.table() == items(source)
    rows = capturing.lakehouse.query(
        "select count(*), count(distinct _offset),"
        " count(distinct (_record::json ->> '$.source.lsn',"
        " _record::json ->> '$.transaction.total_order'))"
        " from bronze.shop__items where (_record::json ->> '$.op') in ('c', 'u', 'd')"
    )
    assert len(set(rows[0])) == 1, rows


@pytest.mark.parametrize("rows", [pytest.param(20_000, marks=pytest.mark.soak), 60])
def test_killed_anywhere_each_change_is_there_once(
    tmp_path: Path, source: Postgres, rows: int
) -> None:
    """With `rows` 60 many transactions are larger than a batch, and are written in parts."""
    source.execute("insert into app.items select i, 'old', i from generate_series(1, 200) as i")
    capturing = Capturing(tmp_path, source, batch={"age": 0.05, "rows": rows})
    applications = [Application(source, seed) for seed in (7, 8)]
    for application in applications:
        application.start()
    points = ["rows-written:2", "committed:3", "acknowledged:4", "received:5", "positions-moved:3"]
    for point in points:
        process = capturing.start("--fail-at", point)
        assert process.wait(90) == -signal.SIGKILL, point
        assert process.stdout is not None
        process.stdout.close()
    for application in applications:
        application.stop.set()
        application.join()
    capturing.run()
    assert_each_once(capturing, source)


@pytest.mark.soak
def test_killed_at_random(tmp_path: Path, source: Postgres) -> None:
    dice = random.Random(11)
    source.execute("insert into app.items select i, 'old', i from generate_series(1, 2000) as i")
    capturing = Capturing(tmp_path, source, batch={"age": 0.05, "rows": 400})
    applications = [Application(source, seed) for seed in (8, 9)]
    for application in applications:
        application.start()
    for number in range(100):
        process = capturing.start()
        # The engine needs some three seconds to begin; the first snapshots are cut, too.
        time.sleep(dice.uniform(2, 6) if number < 3 else dice.uniform(3, 9))
        process.kill()
        process.communicate()
    for application in applications:
        application.stop.set()
        application.join()
    capturing.run()
    assert_each_once(capturing, source)


def test_a_snapshot_that_was_cut_leaves_no_ghosts(tmp_path: Path, source: Postgres) -> None:
    source.execute("insert into app.items select i, 'old', i from generate_series(1, 9000) as i")
    capturing = Capturing(tmp_path, source, batch={"age": 0.01, "rows": 1000})
    process = capturing.start("--fail-at", "committed:4")
    assert process.wait(90) == -signal.SIGKILL
    process.communicate()
    assert 0 < len(capturing.events()) < 9000
    source.execute("delete from app.items where id <= 500")
    capturing.run()
    assert capturing.table() == items(source)


def test_a_database_that_restarts_is_waited_for(tmp_path: Path, source: Postgres) -> None:
    capturing = Capturing(tmp_path, source)
    process = capturing.start()
    try:
        application = Application(source, 9)
        application.start()
        time.sleep(6)
        application.stop.set()
        application.join()
        source.stop("immediate")
        time.sleep(1)
        source.start()
        source.execute("insert into app.items values (-1, 'after', 1)")
        until = time.monotonic() + 60
        while time.monotonic() < until and -1 not in capturing.table():
            time.sleep(1)
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0, output
    finally:
        process.kill()
    assert_each_once(capturing, source)


def test_what_is_lost_is_said_and_read_anew(tmp_path: Path, source: Postgres) -> None:
    source.execute("insert into app.items values (1, 'one', 1), (2, 'two', 2)")
    capturing = Capturing(tmp_path, source)
    capturing.run()
    source.execute("select pg_drop_replication_slot('lakebed_shop')")
    source.execute("delete from app.items where id = 1")
    output = capturing.run(code=1)
    assert "no replication slot lakebed_shop" in output
    assert "--resnapshot" in output
    capturing.run("--resnapshot")
    assert capturing.table() == items(source) == {2: ("two", "2.00")}
    source.execute("alter publication lakebed_shop drop table app.items")
    assert "does not have app.items" in capturing.run(code=1)
    capturing.run("--resnapshot")
    source.execute("insert into app.items values (3, 'three', 3)")
    capturing.run()
    assert capturing.table() == items(source)
    # Another lake must not take this one's slot.
    other = tmp_path / "other"
    other.mkdir()
    for _ in range(2):
        assert "this lake has not made it" in Capturing(other, source).run(code=1)
    assert "this lake has not made it" in Capturing(other, source).run("--resnapshot", code=1)
    capturing.run()


def test_a_lake_or_a_server_that_was_restored_is_noticed(tmp_path: Path, source: Postgres) -> None:
    capturing = Capturing(tmp_path, source)
    source.execute("insert into app.items values (1, 'one', 1)")
    capturing.run()
    shutil.copytree(tmp_path / "lake", tmp_path / "backup")
    ((state,),) = capturing.lakehouse.query(
        "select state from ops.positions__shop where state is not null"
    )
    known = json.loads(state)["lsn"]
    source.execute("insert into app.items values (2, 'two', 2)")
    capturing.run()
    shutil.rmtree(tmp_path / "lake")
    (tmp_path / "backup").rename(tmp_path / "lake")
    confirmed = "select confirmed_flush_lsn - '0/0' from pg_replication_slots"
    assert source.query(confirmed) > [(known,)]  # the database may forget what was read
    assert "has read the slot lakebed_shop further" in capturing.run(code=1)
    capturing.run("--resnapshot")
    assert capturing.table() == items(source)
    # Another server whose log is younger: its changes would be taken for older ones.
    source.execute("select pg_switch_wal()", "create table app.more ()", "select pg_switch_wal()")
    source.execute("insert into app.items values (3, 'three', 3)")
    capturing.run()
    other = Postgres(tmp_path / "other" / "pg")
    other.folder.parent.mkdir()
    other.start()
    try:
        other.execute(
            "create schema app",
            "create table app.items (id bigint primary key)",
            "create table app.empty (id bigint primary key)",
        )
        moved = Capturing(tmp_path, other)
        assert "is not the database" in moved.run(code=1)
        assert "into other tables" in moved.run("--resnapshot", code=1)
    finally:
        other.stop()


#: The models of docs/cdc.md.
PROJECT = {
    "macros/strategy.sql": UPSERT_STRATEGY,
    "models/_items.yml": """
sources:
  - name: shop
    schema: bronze
    tables:
      - {name: shop__items, config: {meta: {stream: true}}}
models:
  - name: item_changes
    columns:
      - {name: id, data_type: bigint, constraints: [{type: not_null}]}
      - {name: name, data_type: string}
      - {name: price, data_type: "decimal(12,2)"}
      - {name: seen_at, data_type: timestamp}
      - {name: note, data_type: string}
""",
    "models/item_changes.sql": """
{{ config(materialized='incremental', incremental_strategy='upsert', unique_key='id',
          pre_hook="{{ lakebed.advance_position() }}",
          meta={'upsert': {'version': '_position', 'delete_flag': '_is_deleted'}}) }}
{%- set bronze = source('shop', 'shop__items') -%}
with changes as (
    {{ lakebed.debezium_changes(bronze, 'item_changes', lakebed.new_batches(bronze)) }}
),
valid as ({{ lakebed.valid_rows('changes') }})
{{ lakebed.upsert_source('valid') }}
""",
    "models/items.sql": "{{ lakebed.current_rows(ref('item_changes')) }}",
}


def test_silver_follows_the_database(tmp_path: Path, source: Postgres) -> None:
    hooks = ["{{ lakebed.create_positions() }}", "{{ lakebed.create_stream_tables() }}"]
    project = DbtProject(tmp_path, PROJECT, config={"on-run-start": hooks})
    project.run("build")  # before the first record
    assert project.query("select count(*) from items") == [(0,)]
    capturing = Capturing(tmp_path, source)
    columns = "id, name, price, seen_at at time zone 'UTC', note"
    changes = [
        ["insert into app.items select i, 'ü', i, now(), repeat('x', 9999) from"
         " generate_series(1, 50) as i"],
        ["update app.items set price = -price where id < 9", "delete from app.items where id = 3",
         "update app.items set id = 100 where id = 4"],
        ["truncate app.items", "insert into app.items values (3, 'back', 0.10, null, null)"],
        [],
    ]  # fmt: skip
    for statements in changes:
        source.transaction(statements)
        capturing.run()
        project.run("build")
        truth = sorted(source.query(f"select {columns} from app.items"), key=repr)
        assert truth
        found = project.query("select id, name, price, seen_at, note from items")
        assert sorted(found, key=repr) == truth


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"postgres": "mysql://x"}, "postgres is a URL"),
        ({"tables": {}}, "tables is empty"),
        ({"tables": {"users": "x"}}, "is not schema.table"),
        ({"tables": {"app.nothing": "x"}}, "has no table app.nothing"),
        ({"debezium": {"slot.name": "x"}}, "leave out slot.name"),
        ({"heartbeat": 0}, "heartbeat is a number above 0"),
        ({"tabels": 1}, "has no setting tabels"),
    ],
)
def test_a_mistake_is_one_clear_line(
    tmp_path: Path, source: Postgres, settings: dict[str, Any], message: str
) -> None:
    output = Capturing(tmp_path, source, **settings).run(code=1)
    assert message in output
    assert "Traceback" not in output
