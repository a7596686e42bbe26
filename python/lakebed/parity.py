"""The same tables on two engines: columns, types, and every row."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import duckdb
from rich.console import Console
from rich.markup import escape

from lakebed.errors import UserError
from lakebed.lake import load_extensions
from lakebed.spark.cluster import running
from lakebed.spark.settings import connect_session, session
from lakebed.store import reach

#: What a run writes about itself differs from run to run.
OF_A_RUN = ("table_checks", "table_profiles", "positions", "work_in_progress")
SYSTEM = ("main", "information_schema", "pg_catalog", "default")
SAMPLES = 3

_TYPES = {"string": "varchar", "int": "integer", "timestamp with time zone": "timestamp"}


@dataclass
class Difference:
    """What differs in one table; `rows` are those that only one engine has, a few of each."""

    table: str
    what: str
    rows: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)


def build(project: Path, home: Path, target: str, as_of: str) -> None:
    """`dbt build` of everything into `home`. Raises UserError when it fails."""
    done = subprocess.run(
        [
            *(str(Path(sys.executable).with_name("dbt")), "--quiet", "build"),
            *("--target", target, "--target-path", str(home / f"target_{target}")),
            *("--exclude", "resource_type:unit_test", "--vars", json.dumps({"as_of": as_of})),
        ],
        cwd=project,
        env={**os.environ, "LAKEBED_HOME": str(home), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise UserError(f"dbt build on {target} failed:\n{done.stdout[-3000:]}{done.stderr[-500:]}")


def compare(home: Path, only: Sequence[str] = ()) -> tuple[int, list[Difference]]:
    """Compare the lakes of DuckDB (target local) and of Spark in `home`.

    `only` names tables (schema.table); without it all are compared. Spark is the cluster that runs
    there, else a session of this process. Returns the number of tables, and what differs between
    them. Raises UserError when one of the lakes is not there, or neither has a table of `only`.
    """
    for lake_of, what in ((home / "catalog.ducklake", "DuckDB"), (home / "spark", "Spark")):
        if not lake_of.exists():
            raise UserError(f"There is no lake of {what} in {home}: `lakebed parity` builds both.")
    with _spark(home / "spark") as spark, duckdb.connect() as lake:
        load_extensions(lake)
        reach(lake, os.environ.get("LAKEBED_STORE", ""))
        lake.execute("set timezone = 'UTC'")
        lake.execute(f"attach 'ducklake:{home / 'catalog.ducklake'}' as lake (read_only)")
        here, there = set(_duckdb_tables(lake)), set(_spark_tables(spark))
        if unknown := set(only) - here - there:
            raise UserError(f"Neither engine has a table {', '.join(sorted(unknown))}.")
        if only:
            here, there = here & set(only), there & set(only)
        found = [Difference(name, "only on DuckDB") for name in sorted(here - there)]
        found += [Difference(name, "only on Spark") for name in sorted(there - here)]
        for name in sorted(here & there):
            found += _compare_table(lake, spark, name)
        return len(here | there), found


@contextmanager
def _spark(home: Path) -> Iterator[Any]:
    if cluster := running(home):
        with connect_session(cluster.connect_url) as connected:
            yield connected
        return
    own = session(home)
    try:
        yield own
    finally:
        own.stop()


def _duckdb_tables(lake: duckdb.DuckDBPyConnection) -> Iterator[str]:
    rows = lake.execute(
        "select table_schema, table_name from information_schema.tables"
        " where table_catalog = 'lake'"
    ).fetchall()
    for schema, table in rows:
        if schema not in SYSTEM and table not in OF_A_RUN:
            yield f"{schema}.{table}"


def _spark_tables(spark: Any) -> Iterator[str]:
    for schema in [row[0] for row in spark.sql("show schemas").collect()]:
        if schema in SYSTEM:
            continue
        for row in spark.sql(f"show tables in `{schema}`").collect():
            if row["tableName"] not in OF_A_RUN and not row["isTemporary"]:
                yield f"{schema}.{row['tableName']}"


def _columns(connection: duckdb.DuckDBPyConnection, name: str) -> dict[str, str]:
    rows = connection.execute(f"describe {name}").fetchall()
    return {row[0]: _TYPES.get(row[1].lower(), row[1].lower()) for row in rows}


def _compare_table(lake: duckdb.DuckDBPyConnection, spark: Any, name: str) -> list[Difference]:
    lake.register("on_spark", spark.table(name).toArrow())
    here, there = _columns(lake, f"lake.{name}"), _columns(lake, "on_spark")
    if set(here) != set(there):
        lacking = ", ".join(sorted(set(here) ^ set(there)))
        return [Difference(name, f"columns that one engine lacks: {lacking}")]
    found = [
        Difference(name, f"column {column}: {here[column]} on DuckDB, {there[column]} on Spark")
        for column in here
        if here[column] != there[column]
    ]
    # Spark's timestamps come with a time zone; the session's is UTC.
    columns = ", ".join(
        f'cast("{column}" as {kind}) as "{column}"' for column, kind in here.items()
    )
    sides = {
        "DuckDB": f"select {columns} from lake.{name}",
        "Spark": f"select {columns} from on_spark",
    }
    only: list[tuple[str, tuple[Any, ...]]] = []
    counts = []
    for side, other in (("DuckDB", "Spark"), ("Spark", "DuckDB")):
        difference = f"({sides[side]}) except all ({sides[other]})"
        (count,) = lake.execute(f"select count(*) from ({difference})").fetchone() or (0,)
        counts.append(f"{count:,} rows only on {side}")
        if count:
            rows = lake.execute(f"select * from ({difference}) order by all limit {SAMPLES}")
            only += [(side, row) for row in rows.fetchall()]
    if only:
        found.append(Difference(name, "; ".join(counts), only))
    return found


def build_both(project: Path, home: Path, as_of: str | None = None) -> None:
    """Build everything on both engines, afresh in `home` and nowhere else."""
    os.environ.pop("LAKEBED_STORE", None)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    now = as_of or datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
    for target in ("local", "spark_local"):
        build(project, home, target, now)


def show(console: Console, tables: int, found: Sequence[Difference]) -> None:
    for difference in found:
        console.print(f"[bold]{difference.table}[/bold]: {escape(difference.what)}")
        for side, row in difference.rows:
            console.print(escape(f"  {side}: {row}"), highlight=False)
    different = len({difference.table for difference in found})
    console.print(f"{tables} tables compared, {tables - different} equal, {different} different.")
