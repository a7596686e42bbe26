"""`lakebed retain`: plan, run."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from lakebed.options import ProfilesDir, ProjectDir, Target, project_of

if TYPE_CHECKING:
    from lakebed.retain import Due

app = typer.Typer(no_args_is_help=True, help="Archive and delete what is older than its policy.")


@app.command()
def plan(
    target: Target = None, project_dir: ProjectDir = None, profiles_dir: ProfilesDir = None
) -> None:
    """Say which rows each table would lose, and which a legal hold keeps; change nothing.

    Example: lakebed retain plan
    """
    from lakebed import retain

    _show(retain.due(project_of(target, project_dir, profiles_dir))[0])


@app.command()
def run(
    target: Target = None, project_dir: ProjectDir = None, profiles_dir: ProfilesDir = None
) -> None:
    """Archive and delete what the plan says. Killed, it is run again.

    Example: lakebed retain run
    """
    from lakebed import retain
    from lakebed.work import at_work

    project = project_of(target, project_dir, profiles_dir)
    tables, left = retain.due(project)
    _show(tables)
    with at_work(project, "lakebed retain"):
        retain.run(project, tables, left, lambda table, text: typer.echo(f"{table}: {text}"))


def _show(tables: list[Due]) -> None:
    from rich.console import Console
    from rich.table import Table

    if not tables:
        typer.echo("No table that is built has a retention policy (docs/maintenance.md).")
        return
    shown = Table("table", "older than", box=None, header_style="bold")
    for heading in ("rows", "MB", "held"):
        shown.add_column(heading, justify="right")
    shown.add_column("archive")
    for each in tables:
        policy = each.policy
        held = f"all: {policy.held}" if policy.held else f"{each.held:,}"
        archive = str(policy.archive) if policy.archive else "none"
        size = f"{each.bytes / 1e6:,.1f}"
        shown.add_row(policy.table, policy.cutoff, f"{each.rows:,}", size, held, archive)
    Console(width=None if sys.stdout.isatty() else 200).print(shown)
