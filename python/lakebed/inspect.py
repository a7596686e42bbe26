"""`lakebed sql` and `lakebed status`: look inside the lake."""

from __future__ import annotations

import csv
import json
import os
import sys
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table

from lakebed.errors import UserError, explain
from lakebed.project import Lake

LAYERS = ("bronze", "silver", "quarantine", "snapshots", "gold", "serving", "ops")


def sql(lake: Lake, query: str, form: str, limit: int) -> None:
    """Print the rows of a query: `table` (the first `limit`), `csv` or `json` (all)."""
    with lake.connect() as connection:
        try:
            cursor = connection.execute(query)
        except duckdb.Error as error:
            raise UserError(explain(error) or str(error).strip()) from error
        names = [column[0] for column in cursor.description or []]
        if form == "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(names)
            while rows := cursor.fetchmany(10_000):
                writer.writerows([[_cell(value) for value in row] for row in rows])
        elif form == "json":
            while rows := cursor.fetchmany(10_000):
                for row in rows:
                    record = dict(zip(names, row, strict=True))
                    print(json.dumps(record, default=_json, ensure_ascii=False))
        else:
            rows = cursor.fetchmany(limit + 1)
            table = Table(*names)
            for row in rows[:limit]:
                table.add_row(*("NULL" if v is None else str(v) for v in row))
            Console(width=None if sys.stdout.isatty() else 200).print(table)
            if len(rows) > limit:
                print(
                    f"The first {limit} rows; --limit shows more, --format csv or json shows all."
                )


def _cell(value: Any) -> Any:
    """CSV has no NULL: an empty field. Lists and structs are JSON."""
    if value is None:
        return ""
    return json.dumps(value, default=_json) if isinstance(value, list | dict) else value


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return str(value)


def status(lake: Lake, project: Path) -> None:
    """Print what is in the lake, what was refused and why, and what to try next."""
    console = Console(width=None if sys.stdout.isatty() else 100)
    with lake.connect() as connection:
        tables = _tables(connection, lake.alias)
        if not tables:
            raise UserError("The lake is empty: run `dbt build`.")
        table = Table("layer", "table", box=None, header_style="bold")
        for heading in ("rows", "files", "MB"):
            table.add_column(heading, justify="right")
        for schema, name, rows, files, size in tables:
            table.add_row(schema, name, f"{rows:,}", f"{files:,}", f"{size / 1e6:,.1f}")
        console.print(table)
        snapshot, when = connection.execute(
            f"select snapshot_id, snapshot_time from ducklake_snapshots('{lake.alias}')"
            " order by snapshot_id desc limit 1"
        ).fetchone() or (0, None)
        console.print(
            f"\nLake: {lake.path.removeprefix('ducklake:')}, target {lake.target}, "
            f"version {snapshot} of {when:%Y-%m-%d %H:%M:%S} UTC"
        )
        console.print(_last_build(project))
        _refused(console, connection)
    _next(console, {f"{schema}.{name}" for schema, name, *_ in tables})


def _tables(
    connection: duckdb.DuckDBPyConnection, alias: str
) -> list[tuple[str, str, int, int, int]]:
    found = connection.execute(
        f"""
        select
            schemas.schema_name,
            info.table_name,
            info.file_count,
            info.file_size_bytes
        from ducklake_table_info('{alias}') as info
        inner join "__ducklake_metadata_{alias}".ducklake_schema as schemas
            on info.schema_id = schemas.schema_id and schemas.end_snapshot is null
        """
    ).fetchall()
    rows = []
    for schema, name, files, size in found:
        (count,) = connection.execute(f'select count(*) from "{schema}"."{name}"').fetchone() or (
            0,
        )
        rows.append((schema, name, count, files or 0, size or 0))
    return sorted(rows, key=lambda row: (LAYERS.index(row[0]) if row[0] in LAYERS else 99, row[1]))


def _last_build(project: Path) -> str:
    file = project / os.environ.get("DBT_TARGET_PATH", "target") / "run_results.json"
    if not file.is_file():
        return "Last build: not known here"
    run = json.loads(file.read_text())
    outcomes: dict[str, int] = {}
    for result in run["results"]:
        outcomes[result["status"]] = outcomes.get(result["status"], 0) + 1
    counts = ", ".join(f"{count} {status}" for status, count in sorted(outcomes.items()))
    when = run["metadata"]["generated_at"][:19].replace("T", " ")
    command, seconds = run["args"].get("which", "run"), run["elapsed_time"]
    return f"Last dbt {command}: {when} UTC, {seconds:.0f} s: {counts}"


def _refused(console: Console, connection: duckdb.DuckDBPyConnection) -> None:
    names = connection.execute(
        "select table_schema || '.' || table_name, table_name from information_schema.tables"
        " where table_schema = 'quarantine' order by all"
    ).fetchall()
    lines = []
    for relation, name in names:
        for reason, rows in connection.execute(
            f"select reason, count(*) as rows from ("
            f" select unnest(string_split(broken_rules, ',')) as reason from {relation}"
            f") group by reason order by rows desc, reason"
        ).fetchall():
            lines.append(f"  {rows:>9,}  {name}: {reason}")
    manifest = connection.execute(
        "select count(*) from information_schema.tables"
        " where table_schema = 'bronze' and table_name = 'landing__files'"
    ).fetchone()
    if manifest and manifest[0]:
        for state, files in connection.execute(
            "select status, count(*) from bronze.landing__files"
            " where status != 'ready' group by all order by all"
        ).fetchall():
            lines.append(f"  {files:>9,}  files {state}")
    console.print("\nRefused, and why:" if lines else "\nRefused: nothing")
    for line in lines:
        console.print(line, highlight=False)


def _next(console: Console, tables: set[str]) -> None:
    console.print("\nTry next:")
    examples = []
    if "gold.agg_monthly_sales" in tables:
        examples = [
            'lakebed sql "select month_start_date, sum(sales_value) from gold.agg_monthly_sales'
            ' group by 1 order by 1"',
            'lakebed sql "select segment_at_sale, count(*), sum(sales_value) from serving.bi_sales'
            ' group by 1 order by 3 desc"',
            "lakebed sample retail --faults 7 --force  # then: dbt build --full-refresh",
        ]
    for example in [*examples, "dbt docs generate && dbt docs serve"]:
        console.print(f"  {example}", highlight=False, soft_wrap=True)
