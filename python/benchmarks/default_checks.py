"""Twenty default checks of a table, against twenty dbt tests, and their SQL alone."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from statistics import median

from benchmarks.deduplicate import transactions
from benchmarks.measure import REPO, Result, Variant, compiled, interleaved

sys.path.insert(0, str(REPO / "python" / "tests"))

from harness import DbtProject

CHECKS = 20
EVENT = "transaction_timestamp"
NUMBERS = ("quantity", "sales_value", "retail_disc", "coupon_disc", "household_id", "week")
COLUMNS = [
    *("household_id", "store_id", "basket_id", "product_id", *NUMBERS[:4]),
    *("coupon_match_disc", "week", EVENT),
    *(f"{name}_again" for name in (*NUMBERS, "basket_id")),
]


def project(home: Path) -> DbtProject:
    """A table of 4.4 M rows and 18 columns; its rows' number and newest event are checked too."""
    # In each column some rows are NULL: otherwise the files' statistics answer without a scan.
    values = (
        f"case when hash(line, '{name}') % 100 > 0 then {name.removesuffix('_again')} end as {name}"
        for name in COLUMNS
    )
    lines = (
        f"select row_number() over () as line, * from read_parquet('{transactions()}'), range(3)"
    )
    tests = {
        name: [{"not_null": {"config": {"severity": "warn"}}}] for name in COLUMNS[: CHECKS - 2]
    }
    return DbtProject(
        home / "project",
        {
            "models/sales.sql": "{{ config(materialized='table') }}\n"
            f"select {', '.join(values)} from ({lines}) as lines",
            "models/sales.yml": json.dumps(
                {
                    "models": [
                        {
                            "name": "sales",
                            "columns": [
                                {"name": name, "data_tests": test} for name, test in tests.items()
                            ],
                        }
                    ]
                }
            ),
            "tests/some_rows.sql": "select 1 from {{ ref('sales') }} having count(*) = 0",
            "tests/fresh.sql": f"select 1 from {{{{ ref('sales') }}}} having max({EVENT}) is null",
        },
    )


def measure(home: Path, repeats: int = 5) -> Result:
    dbt = project(home)
    off = ("--vars", "lakebed_default_checks: off")
    ways = {
        "default checks": ("run",),
        f"{CHECKS} dbt tests": ("build", *off),
        "no checks": ("run", *off),
    }
    runs = interleaved({way: partial(dbt.run, *command) for way, command in ways.items()}, repeats)
    without = median(runs.pop("no checks"))
    seconds = {way: [round(s - without, 3) for s in times] for way, times in runs.items()}

    columns = COLUMNS[: CHECKS - 2]
    relation = "api.Relation.create(identifier='sales')"
    one = compiled(
        home, f"{{{{ lakebed.profile_sql({relation}, {json.dumps(columns)}, '{EVENT}') }}}}"
    )
    many = [
        "select count(*) from sales",
        f"select max({EVENT}) from sales",
        *(f'select count(*) from sales where "{name}" is null' for name in columns),
    ]
    with dbt.connect() as lake:

        def ask(queries: list[str]) -> None:
            for query in queries:
                lake.execute(query).fetchall()

        seconds |= interleaved(
            {"their SQL: one scan": partial(ask, [one]), "20 queries": partial(ask, many)}, repeats
        )
    base = {
        name: seconds[first]
        for first, names in (
            ("default checks", ("default checks", f"{CHECKS} dbt tests")),
            ("their SQL: one scan", ("their SQL: one scan", "20 queries")),
        )
        for name in names
    }
    return Result(
        "default_checks",
        f"{CHECKS} checks of a table of 4.4 M rows: seconds that they add to a dbt run",
        [
            Variant(name, times, round(median(times) / median(base[name]), 2))
            for name, times in seconds.items()
        ],
    )
