"""The command `lakebed`."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from lakebed.audit.cli import audit
from lakebed.backfill_cli import backfill
from lakebed.cdc.cli import capture
from lakebed.cdc.relay_cli import relay
from lakebed.convert.cli import app as convert
from lakebed.edge.cli import app as edge
from lakebed.erase.cli import app as erase
from lakebed.errors import UserError, explain
from lakebed.ingest.cli import app as ingest
from lakebed.ingest.dlq_cli import app as dlq
from lakebed.ingest.pull_cli import breakers, pull
from lakebed.ingest.stream_cli import gateway, stream, webhook
from lakebed.lineage.cli import app as lineage
from lakebed.maintain.cli import app as maintain
from lakebed.options import ProfilesDir, ProjectDir, Target
from lakebed.regions.cli import app as consolidate
from lakebed.retain_cli import app as retain
from lakebed.sample.cli import app as sample
from lakebed.snapshots_cli import check_export, export, exports, import_
from lakebed.spark.cli import app as spark
from lakebed.tiers_cli import app as tier

app = typer.Typer(
    no_args_is_help=True,
    help="Lakebed: a lakehouse you can clone.",
    pretty_exceptions_enable=False,
)
app.add_typer(sample, name="sample")
app.add_typer(ingest, name="ingest")
app.add_typer(spark, name="spark")
app.add_typer(dlq, name="dlq")
app.command()(stream)
app.command()(pull)
app.command()(breakers)
app.command()(webhook)
app.command()(gateway)
app.add_typer(edge, name="edge")
app.command()(capture)
app.command()(relay)
app.command()(backfill)
app.add_typer(consolidate, name="consolidate")
app.add_typer(erase, name="erase")
app.add_typer(maintain, name="maintain")
app.add_typer(retain, name="retain")
app.add_typer(tier, name="tier")
app.add_typer(convert, name="convert")
app.add_typer(lineage, name="lineage")
app.command()(audit)
app.command()(export)
app.command("import")(import_)
app.command()(check_export)
app.command()(exports)


class Format(str, Enum):
    table = "table"
    csv = "csv"
    json = "json"


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help="One SQL statement; the lake is read only.")],
    form: Annotated[Format, typer.Option("--format", help="How to print the rows.")] = Format.table,
    limit: Annotated[int, typer.Option(min=1, help="Rows of a table.")] = 100,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Ask the lake.

    Example: lakebed sql "select count(*) from gold.fct_sales_lines" --format json
    """
    from lakebed import inspect
    from lakebed.project import open_lake

    inspect.sql(open_lake(target, project_dir, profiles_dir), query, form.value, limit)


@app.command()
def status(
    target: Target = None, project_dir: ProjectDir = None, profiles_dir: ProfilesDir = None
) -> None:
    """Tables, rows, sizes, the last build, what was refused and why, what to try next.

    Example: lakebed status
    """
    from lakebed import inspect
    from lakebed.project import open_lake, project_folder

    lake = open_lake(target, project_dir, profiles_dir)
    inspect.status(lake, project_folder(project_dir))


@app.command()
def coverage(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail on a gap.")] = False,
    project_dir: ProjectDir = None,
) -> None:
    """Write docs/patterns.md: what implements each pattern, and what proves it.

    Needs `dbt parse` before. Example: lakebed coverage --check
    """
    from lakebed import coverage as patterns
    from lakebed.project import project_folder

    project = project_folder(project_dir)
    implemented, proved = patterns.implementations(project), patterns.proofs(project)
    problems = patterns.check(project, implemented, proved)
    text = patterns.page(project, implemented, proved)
    file = project / patterns.PAGE
    if not check:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    elif not file.is_file() or file.read_text(encoding="utf-8") != text:
        problems.append(f"{patterns.PAGE} is not up to date: run `make coverage`")
    if problems:
        raise UserError("\n  ".join(["the pattern page has gaps:", *problems]))
    typer.echo(f"{patterns.PAGE}: no gap.")


@app.command()
def parity(
    tables: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TABLE]...", help="Compare these only, e.g. gold.fct_baskets."),
    ] = None,
    home: Annotated[
        Path | None, typer.Option(help="Where to build; it is emptied. Default: data/parity.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Build nothing: compare what --home holds.")
    ] = False,
    project_dir: ProjectDir = None,
) -> None:
    """Build the landing folder's files on DuckDB and on Spark, and compare every row.

    Needs the extra `spark` and Java 17. Example: lakebed parity
    """
    from rich.console import Console

    from lakebed import parity as engines
    from lakebed.project import project_folder

    project = project_folder(project_dir)
    folder = (home or project / "data" / "parity").resolve()
    if not keep:
        engines.build_both(project, folder)
    compared, found = engines.compare(folder, tables or ())
    engines.show(Console(), compared, found)
    if found:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: a person's mistake is one line on standard error, never a traceback."""
    try:
        app()
    except UserError as error:
        _fail(str(error))
    except BrokenPipeError:
        # The reader (`| head`) has what it wants; Python must not write to the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        _fail(line)


def _fail(line: str) -> None:
    print(f"Error: {line}", file=sys.stderr)
    sys.exit(1)
