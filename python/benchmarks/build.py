"""A build of the year by dbt, against a script by hand that reads the same files."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from statistics import median

import duckdb
from lakebed.lake import load_extensions

from benchmarks.measure import Result, compared, run

#: The tables of handwritten.sql; dbt builds them with all that they are made of.
GOLD = [
    "dim_products",
    "dim_stores",
    "dim_households",
    "fct_sales_lines",
    "fct_baskets",
    "agg_daily_sales",
    "agg_monthly_sales",
    "rm_household_summary",
]
SAME = {
    "fct_sales_lines": "count(*), sum(sales_value), count(distinct household_key)",
    "fct_baskets": "count(*), sum(sales_value), sum(lines)",
    "agg_daily_sales": "count(*), sum(sales_value), sum(baskets)",
    "agg_monthly_sales": "count(*), sum(sales_value), sum(baskets)",
    "rm_household_summary": "count(*), sum(sales_value), sum(baskets)",
    "dim_households": "count(*), count(distinct household_id)",
    "dim_products": "count(*), count(distinct product_id)",
}


def models_seconds(home: Path) -> float:
    """Seconds that the nodes of the last dbt run took, by dbt's own account."""
    results = json.loads((home / "target" / "run_results.json").read_text(encoding="utf-8"))
    return sum(result["execution_time"] for result in results["results"])


def by_hand(home: Path, target: Path) -> duckdb.DuckDBPyConnection:
    """The script, into a lake of the same kind."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    connection = duckdb.connect()
    load_extensions(connection)
    connection.execute(
        f"attach 'ducklake:{target}/catalog.ducklake' as lakebed (data_path '{target}/files/')"
    )
    connection.execute("use lakebed")
    script = Path(__file__).with_name("handwritten.sql").read_text(encoding="utf-8")
    connection.execute(script.replace("{landing}", str(home / "landing")))
    return connection


def measure(home: Path, repeats: int = 3) -> Result:
    run(home, "lakebed", "sample", "retail", "--promotion-weeks", "1")
    # Cautious: only tests whose tables are all built.
    select = ["--indirect-selection", "cautious", "--select", *(f"+{name}" for name in GOLD)]
    seconds: dict[str, list[float]] = {
        name: []
        for name in ("by hand, gold only", "dbt run", "of it in models", "dbt build, with tests")
    }
    for _ in range(repeats):
        start = time.perf_counter()
        hand = by_hand(home, home / "hand")
        seconds["by hand, gold only"].append(round(time.perf_counter() - start, 2))
        expected = {
            table: hand.execute(f"select {columns} from gold.{table}").fetchall()
            for table, columns in SAME.items()
        }
        hand.close()
        for name, command in (("dbt run", "run"), ("dbt build, with tests", "build")):
            shutil.rmtree(home / "lake", ignore_errors=True)
            start = time.perf_counter()
            chosen = select if command == "build" else select[2:]
            run(home, "dbt", command, *chosen, "--exclude", "resource_type:unit_test")
            seconds[name].append(round(time.perf_counter() - start, 2))
            if command == "run":
                seconds["of it in models"].append(round(models_seconds(home), 2))
        with duckdb.connect() as lake:
            load_extensions(lake)
            lake.execute(f"attach 'ducklake:{home}/lake/catalog.ducklake' as lakebed (read_only)")
            for table, rows in expected.items():
                found = lake.execute(f"select {SAME[table]} from lakebed.gold.{table}").fetchall()
                assert found == rows, f"{table}: by hand {rows}, dbt {found}"
    outside = median(seconds["dbt run"]) - median(seconds["of it in models"])
    notes = {
        "by hand, gold only": "no bronze, silver, quarantine, incremental state or tests",
        "dbt run": f"{outside:.1f} s outside the models: start, parse, compile, hooks",
    }
    question = "The year's sales to the same gold tables: what do dbt and the layers cost?"
    return compared("build", question, seconds, notes)
