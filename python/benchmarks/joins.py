"""Joins on Spark without a shuffle against the same with one: a small side sent to all, and two
tables in the same buckets (Iceberg). What the plans shuffle is in the notes."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.measure import Result, Variant, compared, interleaved

ROWS, ORDERS, PRODUCTS = 6_000_000, 3_000_000, 20_000

#: Name, rows and columns; `id` numbers the rows.
TABLES = {
    "lines": (
        ROWS,
        f"xxhash64(id) % {ORDERS} as order_id, id % {PRODUCTS} as product_id, id % 997 as amount",
    ),
    "orders": (ORDERS, f"id - {ORDERS // 2} as order_id, id % 50 as store_id, uuid() as note"),
    "products": (PRODUCTS, "id as product_id, concat('product ', id) as name"),
}
#: The question, the tables on both sides, and the hint; the first of each pair is the base.
PAIRS = {
    "small side": (
        "product_id",
        "max(name)",
        {
            "shuffled": ("lines", "products", "merge(b)"),
            "broadcast": ("lines", "products", "broadcast(b)"),
        },
    ),
    "two large sides": (
        "order_id",
        "max(note)",
        {
            "shuffled": ("lines", "orders", "merge(b)"),
            "in the same buckets": ("lines_bucketed", "orders_bucketed", "merge(b)"),
        },
    ),
}


def make(spark: Any) -> None:
    """The tables; those of orders a second time, in buckets."""
    spark.sql("create schema bench")
    for name, (rows, columns) in TABLES.items():
        source = f"select {columns} from range({rows})"
        spark.sql(f"create table bench.{name} using iceberg as {source}")
        if name != "products":
            spark.sql(
                f"create table bench.{name}_bucketed using iceberg"
                f" partitioned by (bucket(8, order_id)) as select * from bench.{name}"
            )


def shuffles(spark: Any, sql: str) -> int:
    """Exchanges of rows by their hash that the plan has, the last one to one row left out."""
    plan = spark.sql(f"explain {sql}").collect()[0][0]
    return int(plan.count("Exchange hashpartitioning"))


def variants_of(spark: Any, repeats: int) -> list[Variant]:
    variants: list[Variant] = []
    for question, (key, value, tables) in PAIRS.items():
        work: dict[str, Callable[[], Any]] = {}
        notes, answers = {}, set()
        for name, (left, right, hint) in tables.items():
            sql = (
                f"select /*+ {hint} */ count(*), sum(amount), {value}"
                f" from bench.{left} as a inner join bench.{right} as b using ({key})"
            )
            answers.add(tuple(spark.sql(sql).collect()[0]))
            variant = f"{question}: {name}"
            notes[variant] = f"{shuffles(spark, sql)} shuffles"
            work[variant] = partial(lambda text: spark.sql(text).collect(), sql)
        assert len(answers) == 1, answers
        variants += compared("", "", interleaved(work, repeats), notes).variants
    return variants


def measure(home: Path, repeats: int = 5) -> Result:
    from lakebed.spark.settings import session

    os.environ |= {"LAKEBED_TABLE_FORMAT": "iceberg"}
    spark = session(home)
    try:
        make(spark)
        question = f"{ROWS:,} rows joined on Spark: what does a shuffle cost? (ratios in pairs)"
        return Result("joins", question, variants_of(spark, repeats))
    finally:
        spark.stop()
        del os.environ["LAKEBED_TABLE_FORMAT"]
