"""`lakebed capture` from a change table that triggers fill: a real PostgreSQL, no log, no Java."""

from __future__ import annotations

import json
import random
import shutil
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from business import Business
from postgres import Postgres, need_capture
from test_capture import Capturing, items

PROVES = ["pat-cdc-change-tables"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    postgres = Postgres(tmp_path_factory.mktemp("source") / "pg")
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def source(server: Postgres) -> Postgres:
    """The server, with nothing of another test in it."""
    server.execute(
        "drop schema if exists app cascade",
        "drop schema if exists lakebed cascade",
        "create schema app",
        "create table app.items (id bigint primary key, name text, price numeric(12, 2))",
        "create table app.empty (id bigint primary key)",
    )
    return server


class Triggers(Capturing):
    """A capture by triggers, which are there from the start."""

    def __init__(self, home: Path, source: Postgres, install: bool = True, **settings: Any) -> None:
        home.mkdir(exist_ok=True)
        super().__init__(home, source, read="triggers", **settings)
        if install:
            assert "the triggers of 2 tables are in" in self.run("--install")


def meaning(row: dict[str, Any] | None) -> dict[str, Any] | None:
    """A row without what PostgreSQL and Debezium write in more than one way: zeros at a time's end,
    blanks in JSON."""
    if row is None:
        return None
    held = dict(row)
    for column in ("at", "local"):
        held[column] = held[column] and datetime.fromisoformat(held[column].replace("Z", "+00:00"))
    for column in ("doc", "raw"):
        held[column] = held[column] and json.loads(held[column], parse_float=str)
    return held


def shape(events: list[dict[str, Any]]) -> list[tuple[str, Any, Any]]:
    return [(event["op"], meaning(event["before"]), meaning(event["after"])) for event in events]


def left(source: Postgres) -> int:
    return int(source.query("select count(*) from lakebed.shop_changes")[0][0])


def test_the_same_events_as_from_the_log(tmp_path: Path, source: Postgres) -> None:
    need_capture()
    source.execute(
        'alter table app.items add "odd % name" text, add at timestamptz, add local timestamp,'
        " add day date, add clock time, add bytes bytea, add doc jsonb, add raw json,"
        " add real double precision, add flag boolean, add small smallint, add id2 uuid",
        "alter table app.items replica identity full",
    )
    row = (
        "'x%s', '2025-01-01 00:00:01.5+02', '2025-01-01 10:11:12.123456', '2025-02-03',"
        """ '10:11:12', '\\x00ff10', '{"b": 1.50, "a": [1, null]}', '{"z":  1.10}',"""
        " 0.1, true, 3, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"
    )
    source.execute(f"insert into app.items values (1, 'ünï \"quoted\"', 1.10, {row})")
    (tmp_path / "log").mkdir()
    log = Capturing(tmp_path / "log", source, name="log")
    triggers = Triggers(tmp_path / "triggers", source)
    assert "1 rows" in log.run()
    assert "1 rows" in triggers.run()
    source.execute(
        "set timezone = 'Asia/Tokyo'", f"insert into app.items values (2, 'n', 10, {row})"
    )
    with psycopg.connect(source.url, options="-c timezone=Asia/Tokyo") as connection:
        connection.execute(f"insert into app.items values (3, null, 99.99, {row})".encode())
        connection.execute("update app.items set price = 0.00, real = 1e20 where id = 1")
        connection.execute("update app.items set id = 20 where id = 2")
        connection.execute("delete from app.items where id = 3")
        connection.execute("update app.items set at = null, doc = null, bytes = null")
    source.execute("truncate app.items", "insert into app.items (id) values (9)")
    log.run()
    triggers.run()
    assert shape(triggers.events()) == shape(log.events())
    query = "select _topic, _key, _offset from bronze.shop__items order by _offset"
    of_log = [(key, at) for _, key, at in log.lakehouse.query(query)]
    assert [(key, at) for _, key, at in triggers.lakehouse.query(query)] == of_log
    assert left(source) == 0
    # Nothing new: nothing is written.
    assert "0 rows, 0 to the DLQ, 0 batches" in triggers.run()
    assert "triggers are removed" in triggers.run("--uninstall")
    source.execute("insert into app.items (id) values (10)")
    assert "no trigger of this capture" in triggers.run(code=1)


def test_who_commits_late_is_read_late(tmp_path: Path, source: Postgres) -> None:
    """Transactions that overlap: numbers are given before it is known who commits, and when."""
    triggers = Triggers(tmp_path, source)
    source.execute("insert into app.items values (1, 'a', 1), (2, 'b', 2)")
    with psycopg.connect(source.url) as long, psycopg.connect(source.url) as undone:
        long.execute("insert into app.items values (3, 'long', 3)")
        undone.execute("insert into app.items values (4, 'undone', 4)")
        triggers.run()
        assert sorted(triggers.table()) == [1, 2]
        source.execute("update app.items set price = 10 where id = 1")
        long.execute("update app.items set price = 11 where id = 1")
        triggers.run()
        assert triggers.table()[1] == ("a", "10.00")
        assert left(source) == 0  # of what others have not committed nothing is seen
        undone.rollback()
        long.commit()
    source.execute("update app.items set price = 12 where id = 1")
    triggers.run()
    assert triggers.table() == items(source)
    assert len(triggers.events()) == 6
    assert left(source) == 0


def changes_under_kills(tmp_path: Path, source: Postgres, seed: int, kills: int) -> None:
    """Writers side by side, capture killed at any step: each change once, in its row's order."""
    dice = random.Random(seed)
    source.execute("insert into app.items select i, 'n', 0 from generate_series(1, 8) as i")
    triggers = Triggers(tmp_path, source, batch={"age": 0.01, "rows": 40})
    done = threading.Event()

    def write(number: int) -> None:
        own = random.Random(seed * 100 + number)
        with psycopg.connect(source.url) as connection:
            while not done.is_set():
                for key in sorted(own.sample(range(1, 9), own.randint(1, 4))):
                    connection.execute(
                        "update app.items set price = price + 1, name = %s where id = %s",
                        (f"{number}", key),
                    )
                    if own.random() < 0.2:
                        connection.execute("delete from app.items where id = %s", (key,))
                        connection.execute(
                            "insert into app.items values (%s, 'new', 0) on conflict do nothing",
                            (key,),
                        )
                done.wait(own.uniform(0, 0.1))
                connection.rollback() if own.random() < 0.2 else connection.commit()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for writer in writers:
        writer.start()
    points = ("received", "begun", "rows-written", "positions-moved", "committed", "acknowledged")
    try:
        for _ in range(kills):
            point = f"{dice.choice(points)}:{dice.randint(1, 6)}"
            process = triggers.start("--patience", "60", "--fail-at", point)
            try:
                process.communicate(timeout=60)
            finally:
                process.kill()
            assert process.returncode == -9
    finally:
        done.set()
        for writer in writers:
            writer.join()
    triggers.run()
    assert triggers.table() == items(source)
    held: dict[int, Any] = {}
    for event in triggers.events():
        key = (event["after"] or event["before"] or {}).get("id")
        if event["op"] == "t":  # a snapshot that was cut is made anew
            held = {}
        elif event["op"] != "r":
            assert event["before"] == held.get(key)
        held[key] = event["after"]
    assert left(source) == 0


def test_killed_anywhere(tmp_path: Path, source: Postgres) -> None:
    changes_under_kills(tmp_path, source, seed=3, kills=8)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_a_hundred_times(tmp_path: Path, source: Postgres) -> None:
    changes_under_kills(tmp_path, source, seed=4, kills=100)


def test_what_was_not_captured_is_said(tmp_path: Path, source: Postgres) -> None:
    source.execute("insert into app.items values (1, 'a', 1)")
    triggers = Triggers(tmp_path / "a", source, install=False)
    assert "has no trigger of this capture" in triggers.run(code=1)
    triggers.run("--install")
    triggers.run("--install")  # again: nothing is lost
    triggers.run()
    assert triggers.table() == items(source)

    # Another lake would take what this one has not read.
    other = Triggers(tmp_path / "b", source, install=False)
    shutil.copytree(triggers.lakehouse.home / "lake", tmp_path / "kept")
    source.execute("insert into app.items values (2, 'b', 2)")
    triggers.run()
    # The lake is restored from a backup.
    shutil.rmtree(triggers.lakehouse.home / "lake")
    shutil.move(tmp_path / "kept", triggers.lakehouse.home / "lake")
    assert "this one before it was restored" in triggers.run(code=1)
    triggers.run("--resnapshot")
    assert triggers.table() == items(source)
    other.run()
    assert "another lake has read these changes" in triggers.run(code=1)
    triggers.run("--resnapshot")

    # Triggers that were away: switched off, or dropped with their table.
    source.execute('alter table app.items disable trigger "lakebed_shop"')
    assert "a disabled one" in triggers.run(code=1)
    source.execute(
        "drop table app.items",
        "create table app.items (id bigint primary key, name text, price numeric(12, 2))",
        "insert into app.items values (7, 'new', 7)",
    )
    triggers.run("--install")
    assert "is not the one of the last run" in triggers.run(code=1)
    triggers.run("--resnapshot")
    assert triggers.table() == items(source)

    # A column more, another less: the next rows have it.
    source.execute("alter table app.items add more text, drop price")
    source.execute("insert into app.items values (8, 'x', 'y')")
    triggers.run()
    assert triggers.events()[-1]["after"] == {"id": 8, "name": "x", "more": "y"}
    for output in (triggers.run("--once"),):
        assert "Traceback" not in output


def test_mistakes_are_one_line(tmp_path: Path, source: Postgres) -> None:
    def said(**settings: Any) -> str:
        capturing = Capturing(tmp_path, source, **settings)
        output = capturing.run("--install", code=1)
        assert "Traceback" not in output
        return output

    assert "read is log (the default) or triggers, not 'x'" in said(read="x")
    assert "there is something to install" in said()
    assert "has no table app.none" in said(read="triggers", tables={"app.none": "none"})
    assert "slot" in said(read="triggers", slot="mine")
    source.execute(
        "create table app.parts (id bigint) partition by range (id)",
        "create table app.parts_1 partition of app.parts for values from (0) to (10)",
    )
    assert "name the partitions" in said(read="triggers", tables={"app.parts": "parts"})


@pytest.mark.timeout(600)
def test_the_business_by_triggers(tmp_path: Path) -> None:
    """The sample's own models take these events as they take the log's, which cannot be read."""
    source = Postgres(tmp_path / "pg")
    source.start()
    source.execute("alter system set wal_level = replica")
    source.stop()
    source.start()
    business = Business(tmp_path, source)
    file = tmp_path / "saas.yml"
    file.write_text(
        Path("streams/saas.yml").read_text(encoding="utf-8") + "read: triggers\n", encoding="utf-8"
    )
    try:
        assert source.query("show wal_level") == [("replica",)]
        assert business.live("2023-12-31").wait() == 0
        business.capture("--install", file=str(file))
        business.capture(file=str(file))  # history begins with the first capture
        for until in ("2024-01-10", "2024-01-25"):
            assert business.live(until).wait() == 0
            business.capture(file=str(file))
            business.lakehouse.dbt("build", "--selector", "saas")
        for table in ("users", "plans", "subscriptions", "payments"):
            found, truth = business.rows(table)
            assert len(truth) >= 3
            assert found == truth
        query = "select count(*), count(distinct id) from silver.saas__events"
        events = sum(entity == "outbox" for entity, *_ in business.ledger())
        assert business.lakehouse.query(query) == [(events, events)]
    finally:
        source.stop()


def test_a_row_larger_than_a_batch(tmp_path: Path, source: Postgres) -> None:
    triggers = Triggers(tmp_path, source, batch={"age": 0.1, "rows": 100})
    source.execute(
        "insert into app.items select i, repeat('ü', 100000), i from generate_series(1, 250) as i"
    )
    assert "250 rows, 0 to the DLQ" in triggers.run()  # the snapshot
    source.execute("update app.items set price = price + 1")
    assert "250 rows, 0 to the DLQ" in triggers.run()
    assert len(json.dumps(triggers.events()[-1])) > 200_000
    assert triggers.table() == items(source)
