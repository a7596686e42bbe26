"""Queries on partitioned tables against the same on one that is not, on DuckLake."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.compaction import connect, files_read
from benchmarks.measure import Result, Variant, compared, interleaved

ROWS = 6_000_000
MONTH = "sold_at >= timestamp '2024-05-01 00:00:00' and sold_at < timestamp '2024-06-01 00:00:00'"
#: Table, its partitions in DuckLake's words, and the query; the first of each pair is the base.
DUCKLAKE = {
    "a month": (MONTH, {"months": "year(sold_at), month(sold_at)", "plain": None}),
    "a customer": ("customer = 4711", {"buckets": "bucket(16, customer)", "plain": None}),
}


def on_ducklake(home: Path, repeats: int) -> list[Variant]:
    variants: list[Variant] = []
    with connect(home) as connection:
        connection.execute("create schema gold")
        connection.execute(
            "create temp table sales as select range as id, hash(range) % 20000 as customer,"
            " timestamp '2024-01-01' + to_seconds((hash(range + 1) % 31536000)::bigint) as sold_at,"
            f" (hash(range + 2) % 10000) / 100 as amount from range({ROWS})"
        )
        by = {name: part for _, tables in DUCKLAKE.values() for name, part in tables.items()}
        for name, part in by.items():
            connection.execute(f"create table gold.{name} as from sales limit 0")
            if part:
                connection.execute(f"alter table gold.{name} set partitioned by ({part})")
            connection.execute(f"insert into gold.{name} from sales")

        def ask(sql: str) -> None:
            connection.execute(sql).fetchall()

        for question, (where, tables) in DUCKLAKE.items():
            work: dict[str, Callable[[], None]] = {}
            notes = {}
            answers = set()
            for name in tables:
                sql = f"select count(*), sum(amount) from gold.{name} where {where}"
                count, total = connection.execute(sql).fetchall()[0]
                answers.add((count, round(total, 2)))
                variant = f"DuckLake, {question}: {name}"
                everything = files_read(connection, f"select sum(amount) from gold.{name}")
                notes[variant] = f"{files_read(connection, sql)} of {everything} files read"
                work[variant] = partial(ask, sql)
            assert len(answers) == 1, answers
            variants += compared("", "", interleaved(work, repeats), notes).variants
    return variants


def measure(home: Path, repeats: int = 5) -> Result:
    question = f"{ROWS:,} rows: what do partitions give? (ratios in pairs)"
    return Result("layout", question, on_ducklake(home, repeats))
