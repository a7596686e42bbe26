"""A process that writes to a lake from several threads, as dbt does; to be killed at any moment.

    python stress_lake.py CATALOGUE DATA ACKS THREADS ROUNDS SEED SCHEMAS

Each thread has a cursor of the one connection, as dbt-duckdb gives it, and models of its own.
A round brings one model to its next version, in one transaction: a table built anew and renamed
into place, an insert, a delete with an insert, or a merge. The transaction also adds a row to a
ledger that all threads share. SCHEMAS says who makes the schemas: `each` thread, as dbt
does, or the main thread `first`. After the commit the thread appends a line to ACKS and
flushes it to the disk, so what stands there has to be in the lake whatever happens next. Errors are
appended as they come, with their text, and the round is given up, as dbt gives up a model.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
import time
from pathlib import Path

import duckdb
from lakebed.lake import load_extensions

SCHEMAS = ("bronze", "silver", "gold")
KINDS = ("table", "append", "delete_insert", "merge")


def connect(catalogue: str, data: str) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    load_extensions(connection, f"ducklake:{catalogue}")
    connection.execute(f"attach 'ducklake:{catalogue}' as lakebed (data_path '{data}/')")
    connection.execute("use lakebed")
    return connection


def statements(kind: str, name: str, version: int, rows: int) -> list[str]:
    """What dbt sends to bring the model `name` to `version`; version 1 makes the table."""
    source = f"select range as id, {version} as version from range({rows})"
    if version == 1:
        return [f"create table {name} as {source}"]
    short = name.split(".")[1]
    if kind == "table":
        return [
            f"create table {name}__dbt_tmp as {source}",
            f"alter table {name} rename to {short}__dbt_backup",
            f"alter table {name}__dbt_tmp rename to {short}",
            f"drop table {name}__dbt_backup",
        ]
    if kind == "append":
        return [f"insert into {name} {source}"]
    if kind == "delete_insert":
        return [f"delete from {name} where id < {rows}", f"insert into {name} {source}"]
    return [
        f"merge into {name} as old using ({source}) as new on old.id = new.id"
        " when matched then update set version = new.version"
        " when not matched then insert values (new.id, new.version)"
    ]


def main() -> None:
    catalogue, data, acks, threads, rounds, seed, schemas = sys.argv[1:]
    connection = connect(catalogue, data)
    log = os.open(acks, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    lock = threading.Lock()

    def tell(**line: object) -> None:
        with lock:
            os.write(log, (json.dumps(line) + "\n").encode())
            os.fsync(log)

    def attempt(cursor: duckdb.DuckDBPyConnection, script: list[str]) -> bool:
        try:
            cursor.execute("begin")
            for statement in script:
                cursor.execute(statement)
            cursor.execute("commit")
            return True
        except duckdb.Error as error:
            tell(error=str(error), script=script)
            with contextlib.suppress(duckdb.Error):
                cursor.execute("rollback")
            return False

    def work(thread: int) -> None:
        choice = random.Random(f"{seed}/{thread}")
        cursor = connection.cursor()
        cursor.execute("use lakebed")  # a new cursor starts in the in-memory database
        versions: dict[str, int] = {}
        if schemas == "each":
            attempt(cursor, [f"create schema if not exists {schema}" for schema in SCHEMAS])
        for turn in range(int(rounds)):
            schema, kind = choice.choice(SCHEMAS), choice.choice(KINDS)
            name = f"{schema}.model_{thread}_{kind}"
            version = versions.get(name, 0) + 1
            script = statements(kind, name, version, choice.choice((3, 50, 2000)))
            ledger = f"insert into main.ledger values ({thread}, {turn}, '{name}', {version})"
            if attempt(cursor, [*script, ledger]):
                versions[name] = version
                tell(thread=thread, turn=turn, name=name, version=version)
                if choice.random() < 0.2:
                    view = f"create or replace view {name}_view as select * from {name}"
                    attempt(cursor, [view])
                if schemas == "each" and choice.random() < 0.2:
                    attempt(cursor, [f"create schema if not exists {choice.choice(SCHEMAS)}"])

    connection.execute(
        "create table if not exists main.ledger"
        " (thread integer, turn integer, name varchar, version integer)"
    )
    if schemas == "first":
        attempt(connection, [f"create schema if not exists {schema}" for schema in SCHEMAS])
    tell(ready=time.time())
    workers = [threading.Thread(target=work, args=(thread,)) for thread in range(int(threads))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    connection.close()
    tell(done=True)


if __name__ == "__main__":
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    main()
