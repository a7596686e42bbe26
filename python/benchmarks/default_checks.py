"""Twenty default checks in one scan, against one query a check."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import duckdb
from lakebed.lake import load_extensions

from benchmarks.deduplicate import transactions
from benchmarks.measure import Result, compared, compiled, interleaved

CHECKS = 20


def measure(home: Path, repeats: int = 7) -> Result:
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    load_extensions(connection)
    connection.execute(f"attach 'ducklake:{home}/checks' as lake (data_path '{home}/files/')")
    connection.execute("use lake")
    # In each column some rows are NULL: otherwise the files' statistics answer without a scan.
    source = f"read_parquet('{transactions()}')"
    columns = [row[0] for row in connection.execute(f"describe select * from {source}").fetchall()]
    numbers = ("quantity", "sales_value", "retail_disc", "coupon_disc", "household_id", "week")
    wide = [*columns, *(f"{name}_again" for name in (*numbers, "basket_id"))][: CHECKS - 2]
    values = (
        f"case when hash(line, '{name}') % 100 > 0 then {name.removesuffix('_again')} end as {name}"
        for name in wide
    )
    connection.execute(
        f"""create table sales as select {", ".join(values)}
        from (select row_number() over () as line, * from {source}, range(3))"""
    )
    names = wide
    event = "transaction_timestamp"
    one = compiled(
        home,
        "{{ lakebed.profile_sql(api.Relation.create(identifier='sales'), "
        f"{json.dumps(names)}, '{event}') }}}}",
    )
    many = [
        "select count(*) from sales",
        f"select max({event}) from sales",
        *(f'select count(*) from sales where "{name}" is null' for name in names),
    ]

    def run(queries: list[str]) -> None:
        for query in queries:
            connection.execute(query).fetchall()

    seconds = interleaved(
        {"one scan": partial(run, [one]), f"{len(many)} queries": partial(run, many)}, repeats
    )
    question = f"{len(many)} checks of a table of 4.4 M rows: one scan or one query each?"
    return compared("default_checks", question, seconds)
