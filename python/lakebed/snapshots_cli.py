"""`lakebed export`, `lakebed import` and `lakebed check-export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakebed.options import ProfilesDir, ProjectDir, Target, project_of

Sha = Annotated[
    str | None, typer.Option(help="What `lakebed export` printed; finds a new manifest.")
]
Folder = Annotated[Path, typer.Argument(help="The folder of the export.")]


def export(
    table: Annotated[str, typer.Argument(help="schema.table")],
    folder: Annotated[Path, typer.Argument(help="A folder that is not there yet.")],
    where: Annotated[str | None, typer.Option(help="A condition: only these rows.")] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Write a table, as it is now, to a folder: Parquet, and a manifest with checksums.

    Example: lakebed export gold.fct_sales_lines exports/sales-2017
    """
    from lakebed import snapshots
    from lakebed.work import at_work

    project = project_of(target, project_dir, profiles_dir)
    with at_work(project, "lakebed export"):
        made = snapshots.export(project, table, folder, where)
    typer.echo(f"{made['rows']:,} rows in {len(made['files'])} files; sha256 {made['sha256']}")


def check_export(folder: Folder, sha256: Sha = None) -> None:
    """Check that an export is complete and unchanged.

    Example: lakebed check-export exports/sales-2017
    """
    from lakebed import snapshots

    found = snapshots.verify(folder, sha256)
    typer.echo(
        f"{found['table']} of {found['exported_at'][:19]}, {found['rows']:,} rows: unchanged."
    )


def exports(
    forget: Annotated[
        Path | None, typer.Option(help="An export that is gone, so that no erasure asks for it.")
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """List the exports and archives that the lake knows of, where an erasure looks.

    Example: lakebed exports --forget exports/sales-2017
    """
    from lakebed import snapshots

    for each in snapshots.known(project_of(target, project_dir, profiles_dir), forget):
        there = "" if Path(each["folder"]).exists() else "  (not there)"
        typer.echo(f"{each['exported_at'][:19]}  {each['table']}  {each['folder']}{there}")


def import_(
    folder: Folder,
    table: Annotated[str, typer.Argument(help="schema.table, which is not there yet.")],
    sha256: Sha = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Make a new table of an export that is unchanged.

    Example: lakebed import exports/sales-2017 gold.sales_2017
    """
    from lakebed import snapshots
    from lakebed.erase.exports import refuse_erased
    from lakebed.work import at_work

    project = project_of(target, project_dir, profiles_dir)
    with at_work(project, "lakebed import"):
        refuse_erased(project, folder.absolute())
        made = snapshots.import_as(project, folder, table, sha256)
    typer.echo(f"{table}: {made['rows']:,} rows of {made['table']}.")
