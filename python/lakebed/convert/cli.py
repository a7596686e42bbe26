"""`lakebed convert`: Parquet files become a table, and readers see no gap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakebed.options import ProfilesDir, ProjectDir, Target, project_of

if TYPE_CHECKING:
    from lakebed.convert.state import Conversion
    from lakebed.dbt import Project

app = typer.Typer(
    no_args_is_help=True,
    help="Parquet files become a table of the lake, and readers see no gap: "
    "start, sync, validate, cut-over, roll-back, finish.",
)
View = Annotated[str, typer.Argument(help="What readers read: schema.name.")]


@app.command()
def start(
    folder: Annotated[Path, typer.Argument(help="A folder of Parquet files.")],
    view: Annotated[str, typer.Argument(help="schema.name: the view that readers will read.")],
    to: Annotated[
        str | None, typer.Option(help="ducklake, delta or iceberg; as the lake's tables are.")
    ] = None,
    replace_view: Annotated[
        bool, typer.Option("--replace-view", help="Take the place of a view that is there.")
    ] = False,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Make a view of the files for readers, a table beside it, and copy the files to it.

    Example: lakebed convert start /data/sales gold.sales
    """
    from lakebed.convert import run

    with _at_work(target, project_dir, profiles_dir) as project:
        run.start(project, folder, view, to, replace_view, typer.echo)
    typer.echo(f"Readers read {view}. Next: `lakebed convert cut-over {view}`; `sync` until then.")


@app.command()
def publish(
    table: Annotated[str, typer.Argument(help="schema.table, of this lake.")],
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Write a table to files that follow it: for `start` in a lake of another format.

    Example: lakebed convert publish gold.sales /data/sales
    """
    from lakebed.convert import run

    with _at_work(target, project_dir, profiles_dir) as project:
        compared = run.publish(project, table, folder)
    typer.echo(f"{compared.rows:,} rows of {table} are in {folder}. In the other lake:")
    typer.echo(f"  lakebed convert start {folder} {table}")


@app.command()
def sync(
    view: View,
    recopy: Annotated[
        bool, typer.Option("--recopy", help="Copy all files anew: some were changed.")
    ] = False,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Bring the side that readers do not see up to date: the table, after a cut-over the files.

    Example: lakebed convert sync gold.sales
    """
    from lakebed.convert import run

    with _at_work(target, project_dir, profiles_dir) as project:
        run.sync(project, view, recopy, typer.echo)


@app.command()
def validate(
    view: View,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Compare every row of the files and of the table; exit code 1 when they differ.

    Example: lakebed convert validate gold.sales
    """
    from lakebed.convert import run

    compared = run.validate(project_of(target, project_dir, profiles_dir), view)
    if not compared.problems:
        typer.echo(f"{compared.rows:,} rows, the same in the files and in the table")
        return
    for line in compared.problems:
        typer.echo(line)
    raise typer.Exit(1)


@app.command("cut-over")
def cut_over(
    view: View,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Compare every row, and let readers see the table.

    Example: lakebed convert cut-over gold.sales
    """
    from lakebed.convert import run

    with _at_work(target, project_dir, profiles_dir) as project:
        compared = run.cut_over(project, view, typer.echo)
    typer.echo(f"Readers of {view} see the table, with the same {compared.rows:,} rows.")


@app.command("roll-back")
def roll_back(
    view: View,
    to: Annotated[
        Path | None,
        typer.Option(help="Write all rows to new files, in a folder that is not there yet."),
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Bring the files up to date, compare every row, and let readers see the files again.

    Example: lakebed convert roll-back gold.sales
    """
    from lakebed.convert import run

    with _at_work(target, project_dir, profiles_dir) as project:
        compared = run.roll_back(project, view, to, typer.echo)
    typer.echo(f"Readers of {view} see the files, with the same {compared.rows:,} rows.")


@app.command()
def finish(
    view: View,
    delete_files: Annotated[
        bool, typer.Option("--delete-files", help="Delete the files; else they are left.")
    ] = False,
    after_days: Annotated[
        int, typer.Option(min=0, help="With --delete-files: so long after the cut-over.")
    ] = 30,
    drop_table: Annotated[
        bool, typer.Option("--drop-table", help="Give up: readers see the files for good.")
    ] = False,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """End the conversion: the two sides follow each other no more.

    Example: lakebed convert finish gold.sales --delete-files
    """
    from lakebed.convert import run

    with _at_work(target, project_dir, profiles_dir) as project:
        for line in run.finish(project, view, delete_files, drop_table, after_days):
            typer.echo(line)


@app.command()
def status(
    target: Target = None, project_dir: ProjectDir = None, profiles_dir: ProfilesDir = None
) -> None:
    """Where each conversion stands, and what comes next. Changes nothing.

    Example: lakebed convert status
    """
    from lakebed.convert import state

    found = state.conversions(project_of(target, project_dir, profiles_dir))
    for each in found:
        typer.echo(
            f"{each.view}: readers see the {each.readers}; {each.folder} and {each.stored_as}, "
            f"{len(each.known):,} files in both. {_next(each)}"
        )
    if not found:
        typer.echo("Nothing is being converted.")


@contextmanager
def _at_work(
    target: str | None, project_dir: Path | None, profiles_dir: Path | None
) -> Iterator[Project]:
    """The project, while no erasure begins."""
    from lakebed.work import at_work

    project = project_of(target, project_dir, profiles_dir)
    with at_work(project, "lakebed convert"):
        yield project


def _next(found: Conversion) -> str:
    from lakebed.errors import UserError

    try:
        state = found.moves()
    except (UserError, OSError) as error:
        return str(error)
    if found.open_step:
        return f"A step was killed ({found.open_step}): any other command goes on with it."
    if state.broken:
        return f"Changed or vanished: {len(state.broken):,} files; `sync` says what to do."
    if state.new:
        return f"Not copied yet: {len(state.new):,} files: `sync`."
    if found.readers == "files":
        return "Next: `cut-over`, which compares every row first."
    return f"Cut over at {found.cut_over_at}. Next: `sync`, ready for `roll-back`; or `finish`."
