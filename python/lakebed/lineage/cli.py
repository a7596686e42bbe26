"""`lakebed lineage`: upstream, downstream, impact, check, page, emit."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakebed.errors import UserError
from lakebed.options import ProfilesDir, ProjectDir, Target

if TYPE_CHECKING:
    from lakebed.lineage.graph import Graph, Step

app = typer.Typer(no_args_is_help=True, help="Where columns come from, and who uses them.")

Name = Annotated[
    str,
    typer.Argument(help="schema.table, a model's name, or one of them with .column after it."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile/--no-compile", help="Whether dbt compiles first, or target/ is as it should be."
    ),
]

_WORDS = ("as it is", "changed", "aggregated", "decides")


@app.command()
def upstream(
    name: Name,
    as_json: Json = False,
    compiled: Compile = True,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """What a table or a column is made of, back to files, topics and databases.

    Example: lakebed lineage upstream gold.fct_sales_lines.sales_value
    """
    graph = _graph(target, project_dir, profiles_dir, compiled)
    _show(graph.upstream(*graph.find(name)), as_json, "Nothing: it is made here.")


@app.command()
def downstream(
    name: Name,
    as_json: Json = False,
    compiled: Compile = True,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """What is made of a table or a column.

    Example: lakebed lineage downstream silver.retail__products.department
    """
    graph = _graph(target, project_dir, profiles_dir, compiled)
    _show(graph.downstream(*graph.find(name)), as_json, "Nothing is made of it.")


@app.command()
def impact(
    name: Name,
    as_json: Json = False,
    compiled: Compile = True,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """What a change of a table or a column concerns: columns, rows, tests, exposures.

    Example: lakebed lineage impact silver.retail__households.household_id
    """
    graph = _graph(target, project_dir, profiles_dir, compiled)
    at = graph.find(name)
    concerned = graph.impact(*at)
    if as_json:
        for table, found in concerned.items():
            typer.echo(json.dumps({"table": table, **found}))
        return
    if not concerned:
        typer.echo("Nothing depends on it.")
    for table, found in concerned.items():
        typer.echo(table)
        for kind, names in found.items():
            if names:
                typer.echo(f"  {kind}: {', '.join(names)}")


@app.command()
def check(
    compiled: Compile = True,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """How much lineage is known; exits with 1 when something is not.

    Example: lakebed lineage check
    """
    graph = _graph(target, project_dir, profiles_dir, compiled)
    known = graph.completeness()
    typer.echo(
        f"{known.tables:,} tables, {known.columns:,} columns: {known.traced:,} are made of columns"
        f" that came from outside, {known.made:,} are made here, {known.unknown:,} are unknown."
    )
    for table, problem in graph.problems.items():
        typer.echo(f"{table}: {problem}")
    if graph.problems or known.unknown:
        raise typer.Exit(1)


@app.command("page")
def write_page(
    out: Annotated[Path, typer.Option(help="The file to write.")] = Path("target/lineage.html"),
    compiled: Compile = True,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Write the lineage of all tables and columns as one HTML page.

    Example: lakebed lineage page --out public/lineage.html
    """
    from lakebed.lineage.page import page

    graph = _graph(target, project_dir, profiles_dir, compiled)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(page(graph), encoding="utf-8")
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}.") from error
    typer.echo(f"{out}: {len(graph.tables):,} tables.")


@app.command()
def emit(
    file: Annotated[
        Path | None,
        typer.Option(help="Write the events into this file, one a line, and send nothing."),
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Send dbt's last run as OpenLineage events, once more or for the first time.

    With OPENLINEAGE_URL (or another of OpenLineage's settings) every run of dbt and of the sidecar
    does so by itself.

    Example: OPENLINEAGE_URL=http://localhost:5000 lakebed lineage emit
    """
    from lakebed.lineage import tell
    from lakebed.project import project_folder, target_settings

    _need()
    if file is None and not tell.wanted():
        raise UserError("Say where to: OPENLINEAGE_URL=http://..., or --file events.ndjson.")
    project = project_folder(project_dir).resolve()
    _, output = target_settings(project, profiles_dir, target)
    if file is not None:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise UserError(f"{file}: {error.strerror}.") from error
    count = tell.send(tell.of_run(project, _artifacts(project), output), file)
    typer.echo(f"{count:,} events.")


def _artifacts(project: Path) -> Path:
    return project / (os.environ.get("DBT_TARGET_PATH") or "target")


def _need() -> None:
    if not (find_spec("openlineage") and find_spec("sqlglot")):
        raise UserError("Lineage needs packages more: pip install 'lakebed[lineage]'")


def _graph(
    target: str | None, project_dir: Path | None, profiles: Path | None, compiled: bool
) -> Graph:
    """The graph of the project as it is, or as dbt last compiled it."""
    _need()
    from lakebed.dbt import Project
    from lakebed.lineage.arrivals import configured
    from lakebed.lineage.graph import build
    from lakebed.project import project_folder

    project = project_folder(project_dir).resolve()
    arrivals, problems = configured(project / "streams")
    for problem in problems:
        typer.echo(f"Left out: {problem}", err=True)
    file = _artifacts(project) / "manifest.json"
    if compiled:
        Project(project, target, profiles.resolve() if profiles else None).dbt("compile")
    elif not file.is_file():
        raise UserError(f"There is no {file}: leave out --no-compile.")
    return build(json.loads(file.read_text("utf-8")), arrivals)


def _show(steps: Sequence[Step], as_json: bool, nothing: str) -> None:
    """A tree, nearest first."""
    for step in steps:
        if as_json:
            row = {"table": step.table, "column": step.column, "how": step.how.name}
            typer.echo(json.dumps({**row, "depth": step.depth}))
        elif step.column is None:
            rows = " (its rows)" if step.how else ""
            typer.echo(f"{'  ' * (step.depth - 1)}{step.table}{rows}")
        else:
            how = _WORDS[step.how]
            typer.echo(f"{'  ' * (step.depth - 1)}{step.table}.{step.column}  {how}")
    if not steps and not as_json:
        typer.echo(nothing)
