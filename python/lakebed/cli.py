"""The command `lakebed`."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from lakebed.errors import UserError, explain
from lakebed.sample.cli import app as sample

app = typer.Typer(
    no_args_is_help=True,
    help="Lakebed: a lakehouse you can clone.",
    pretty_exceptions_enable=False,
)
app.add_typer(sample, name="sample")

Target = Annotated[str | None, typer.Option(help="Target of profiles.yml; its default if absent.")]
ProjectDir = Annotated[Path | None, typer.Option(help="Folder with dbt_project.yml.")]


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
) -> None:
    """Ask the lake.

    Example: lakebed sql "select count(*) from gold.fct_sales_lines" --format json
    """
    from lakebed import inspect
    from lakebed.project import open_lake

    inspect.sql(open_lake(target, project_dir), query, form.value, limit)


@app.command()
def status(target: Target = None, project_dir: ProjectDir = None) -> None:
    """Tables, rows, sizes, the last build, what was refused and why, what to try next.

    Example: lakebed status
    """
    from lakebed import inspect
    from lakebed.project import open_lake, project_folder

    inspect.status(open_lake(target, project_dir), project_folder(project_dir))


def main() -> None:
    """Entry point: a person's mistake is one line on standard error, never a traceback."""
    try:
        app()
    except UserError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        line = explain(error)
        if line is None:
            raise
        print(f"Error: {line}", file=sys.stderr)
        sys.exit(1)
