"""`lakebed sql` and `lakebed status`: look inside the lake."""

from __future__ import annotations

import csv
import json
import math
import os
import sys
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lakebed.errors import UserError, explain
from lakebed.project import Lake

LAYERS = ("bronze", "silver", "quarantine", "snapshots", "gold", "serving", "ops")


def sql(lake: Lake, query: str, form: str, limit: int) -> None:
    """Print the rows of a query: `table` (the first `limit`), `csv` or `json` (all, a row a line).

    Raises UserError for what DuckDB refuses, and for JSON of two columns with one name.
    """
    with lake.connect() as connection:
        try:
            cursor = connection.execute(query)
            names = [column[0] for column in cursor.description or []]
            {"csv": _print_csv, "json": _print_json}.get(form, _print_table)(cursor, names, limit)
        except duckdb.Error as error:
            cause = _cause(connection, query, error)
            raise UserError(explain(cause) or _refusal(cause)) from error


def _print_csv(cursor: duckdb.DuckDBPyConnection, names: list[str], _limit: int) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    while rows := cursor.fetchmany(10_000):
        writer.writerows([[_cell(value) for value in row] for row in rows])


def _print_json(cursor: duckdb.DuckDBPyConnection, names: list[str], _limit: int) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"Two columns are named {twice[0]}: give one an alias.")
    while rows := cursor.fetchmany(10_000):
        for row in rows:
            print(_json(dict(zip(names, row, strict=True))))


def _print_table(cursor: duckdb.DuckDBPyConnection, names: list[str], limit: int) -> None:
    rows = cursor.fetchmany(limit + 1)
    # Text, not str: Rich would take [brackets] in the data for markup.
    table = Table(*(Column(Text(name)) for name in names))
    for row in rows[:limit]:
        table.add_row(*(Text("NULL" if v is None else str(v)) for v in row))
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    if len(rows) > limit:
        print(f"The first {limit} rows; --limit shows more, --format csv or json shows all.")


def _cause(connection: duckdb.DuckDBPyConnection, query: str, error: duckdb.Error) -> duckdb.Error:
    """What went wrong. When a query fails in the middle of its rows, DuckDB's client says only
    that the result is closed; the same query run to nowhere tells why."""
    if "pending query result" in str(error):
        try:
            connection.execute(f"copy ({query.strip().rstrip(';')}) to '{os.devnull}' (format csv)")
        except duckdb.Error as cause:
            return cause
    return error


def _refusal(error: duckdb.Error) -> str:
    """The engine's message without the quoted query."""
    message = str(error).strip().splitlines()[0]
    if isinstance(error, duckdb.CatalogException):
        return f"{message} `lakebed status` lists the tables."
    return message


def _cell(value: Any) -> Any:
    """CSV has no NULL: an empty field. Lists and structs are JSON, the rest as DuckDB writes it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return value.hex()
    return _json(value) if isinstance(value, list | tuple | dict) else value


def _json(value: Any) -> str:
    return json.dumps(_plain(value), ensure_ascii=False, allow_nan=False)


def _plain(value: Any) -> Any:
    """JSON's own types. What JSON cannot hold exactly (decimals, times, NaN) becomes a string."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return value.hex() if isinstance(value, bytes) else str(value)


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
            table.add_row(schema, Text(name), f"{rows:,}", f"{files:,}", f"{size / 1e6:,.1f}")
        console.print(table)
        snapshot, when = connection.execute(
            f"select snapshot_id, snapshot_time from ducklake_snapshots('{lake.alias}')"
            " order by snapshot_id desc limit 1"
        ).fetchone() or (0, None)
        console.print(
            f"\nLake: {lake.place}, target {lake.target}, "
            f"version {snapshot} of {when:%Y-%m-%d %H:%M:%S} UTC",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
        console.print(_last_build(project))
        _refused(console, connection)
        _halted(console, connection)
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
    found = connection.execute(
        "select table_name, data_type from information_schema.columns"
        " where table_catalog = current_catalog() and table_schema = 'quarantine'"
        " and column_name = 'broken_rules' order by all"
    ).fetchall()
    lines = []
    for name, kind in found:
        rules = "broken_rules" if kind.endswith("[]") else "string_split(broken_rules, ',')"
        for reason, rows in connection.execute(
            f"select reason, count(*) as rows from ("
            f' select unnest({rules}) as reason from quarantine."{name}"'
            f") group by reason order by rows desc, reason"
        ).fetchall():
            lines.append(f"  {rows:>9,}  {name}: {reason}")
    manifest = connection.execute(
        "select count(*) from information_schema.tables where table_catalog = current_catalog()"
        " and table_schema = 'bronze' and table_name = 'landing__files'"
    ).fetchone()
    if manifest and manifest[0]:
        for state, files in connection.execute(
            "select status, count(*) from bronze.landing__files"
            " where status not in ('ready', 'erased') group by all order by all"
        ).fetchall():
            lines.append(f"  {files:>9,}  files {state}")
    console.print("\nRefused, and why:" if lines else "\nRefused: nothing")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _halted(console: Console, connection: duckdb.DuckDBPyConnection) -> None:
    """Sources whose quality opened their circuit (macros/quality/source_circuits.sql)."""
    there = connection.execute(
        "select count(*) from information_schema.tables where table_catalog = current_catalog()"
        " and table_schema = 'ops' and table_name = 'source_circuits'"
    ).fetchone()
    if not there or not there[0]:
        return
    found = connection.execute(
        "select source, from_batch, reason, retry_at from ops.source_circuits"
        " where state = 'open' order by source"
    ).fetchall()
    if found:
        console.print("\nHalted, until a probe after the time is good (docs/quality.md):")
    for source, batch, reason, retry_at in found:
        line = f"  {source} from batch {batch} on, {retry_at:%Y-%m-%d %H:%M:%S} UTC: {reason}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


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
        console.print(f"  {example}", highlight=False, markup=False, soft_wrap=True)
