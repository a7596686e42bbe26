"""Queries on a table of thousands of small files, before and after `optimize` and `cluster`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import duckdb
from lakebed.lake import load_extensions

from benchmarks.measure import Result, compared, interleaved, run

FILES, ROWS = 2_000, 3_000_000
QUERIES = {
    "all rows": "select sum(amount) from {t}",
    "one customer": "select sum(amount) from {t} where customer = 4711",
    "one shop and a month": "select sum(amount) from {t} where shop = 7 and day between 30 and 60",
}


def connect(home: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    load_extensions(connection)
    connection.execute("set threads = 2")
    (home / "lake").mkdir(parents=True, exist_ok=True)
    catalogue, files = home / "lake" / "catalog.ducklake", home / "lake" / "files"
    connection.execute(f"attach 'ducklake:{catalogue}' as lakebed (data_path '{files}/')")
    connection.execute("use lakebed")
    return connection


def fill(connection: duckdb.DuckDBPyConnection) -> None:
    """The same rows in three tables, as `FILES` appends would leave them."""
    connection.execute("create schema gold")
    per_file = ROWS // FILES
    connection.execute(
        f"create temp table sales as select range as id, hash(range) % 20000 as customer,"
        f" hash(range + 1) % 500 as shop, range // {ROWS // 365} as day,"
        f" (hash(range + 2) % 10000) / 100 as amount from range({ROWS})"
    )
    for name in ("small", "optimized", "clustered"):
        connection.execute(f"create table gold.{name} as from sales limit 0")
        connection.execute("begin")
        for number in range(FILES):
            connection.execute(
                f"insert into gold.{name} from sales"
                f" where id >= {number * per_file} and id < {(number + 1) * per_file}"
            )
        connection.execute("commit")


def files_read(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """From the engine's own account of the query."""
    row = connection.execute(f"explain (analyze, format json) {sql}").fetchone()
    assert row
    found = re.findall(r'"Total Files Read": "(\d+)"', row[1])
    return sum(map(int, found))


def measure(home: Path, repeats: int = 5) -> Result:
    with connect(home) as connection:
        fill(connection)
    for verb, arguments in (
        ("optimize", {"relation": "gold.optimized", "target_mb": 8}),
        ("cluster", {"relation": "gold.clustered", "by": ["customer", "shop"], "target_mb": 8}),
    ):
        run(home, "dbt", "--quiet", "run-operation", verb, "--args", json.dumps(arguments))
    variants: dict[str, Callable[[], None]] = {}
    notes: dict[str, str] = {}
    with connect(home) as connection:

        def ask(sql: str) -> None:
            connection.execute(sql).fetchall()

        for name, query in QUERIES.items():
            answers = set()
            for table in ("small", "optimized", "clustered"):
                sql = query.format(t=f"gold.{table}")
                variant = f"{name}: {table}"
                answers.add(round(connection.execute(sql).fetchall()[0][0], 2))
                notes[variant] = f"{files_read(connection, sql):,} files read"
                variants[variant] = partial(ask, sql)
            assert len(answers) == 1, answers
        seconds = interleaved(variants, repeats)
    question = f"{ROWS:,} rows in {FILES:,} files: what do optimize and cluster give?"
    return compared("compaction", question, seconds, notes)
