"""`lakebed tier`: plan, run, lifecycle."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakebed.options import ProfilesDir, ProjectDir, Target

if TYPE_CHECKING:
    from lakebed.project import Lake
    from lakebed.tiers import Move, Policy

app = typer.Typer(no_args_is_help=True, help="Old files to cheaper storage; queries go on.")


@app.command()
def plan(
    target: Target = None, project_dir: ProjectDir = None, profiles_dir: ProfilesDir = None
) -> None:
    """Say which files belong where by their age, and what that saves; change nothing.

    Example: lakebed tier plan
    """
    _planned(target, project_dir, profiles_dir)


@app.command()
def run(
    fail_at: Annotated[
        str | None,
        typer.Option(help="For tests: die (SIGKILL) at a step: promised, copied, moved."),
    ] = None,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a busy lake.")] = 60,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Move the files that the plan names. Killed, it is run again.

    Example: lakebed tier run
    """
    from lakebed import tiers
    from lakebed.ingest.faults import Faults
    from lakebed.ingest.patience import Patience

    faults = Faults(fail_at, tiers.POINTS)
    lake, policy, moves = _planned(target, project_dir, profiles_dir)
    done = tiers.move(lake, policy, moves, typer.echo, Patience(patience), faults)
    left = f"; {len(moves) - done:,} were replaced meanwhile" if done < len(moves) else ""
    typer.echo(f"{done:,} files moved{left}.")


@app.command()
def lifecycle(
    prefix: Annotated[str, typer.Option(help="Where the lake's objects begin.")] = "",
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Print the tiers as lifecycle rules of S3, for a lake in an object store.

    Example: lakebed tier lifecycle --prefix lake/silver/ > rules.json
    """
    from lakebed import tiers
    from lakebed.dbt import Project, answer
    from lakebed.project import project_folder

    project = Project(project_folder(project_dir).resolve(), _target(target), profiles_dir)
    facts = answer(project.operation("tiering_facts", {}))
    rules = tiers.lifecycle(tiers.tiers_of(facts["tiers"], project.folder), prefix)
    typer.echo(json.dumps(rules, indent=2))


def _planned(
    target: str | None, folder: Path | None, profiles: Path | None
) -> tuple[Lake, Policy, list[Move]]:
    """The plan, which is shown."""
    from rich.console import Console
    from rich.table import Table

    from lakebed import tiers
    from lakebed.dbt import Project
    from lakebed.project import open_lake, project_folder

    project = Project(project_folder(folder).resolve(), _target(target), profiles)
    lake = open_lake(target, folder, profiles)
    policy = tiers.read_policy(project)
    os.chdir(project.folder)
    with lake.connect() as connection:
        found = tiers.files(connection, lake, policy)
    moves, now, then = tiers.plan(found, policy)
    moving = {move.file.table for move in moves}
    shown = Table("table", box=None, header_style="bold")
    for tier in policy.used:
        shown.add_column(f"{tier.name} MB", justify="right")
    for heading in ("to move", "$ a month", "then"):
        shown.add_column(heading, justify="right")
    for before, after in zip(now, then, strict=True):
        if after.table not in moving:
            continue
        sizes = (f"{after.bytes.get(tier.name, 0) / 1e6:,.1f}" for tier in policy.used)
        size = sum(move.file.bytes for move in moves if move.file.table == after.table)
        costs = (f"{cost.dollars:,.6f}" for cost in (before, after))
        shown.add_row(after.table, *sizes, f"{size / 1e6:,.1f}", *costs)
    if moves:
        Console(width=None if sys.stdout.isatty() else 200).print(shown)
    spent, will = (sum(cost.dollars for cost in costs) for costs in (now, then))
    share = 1 - will / spent if spent else 0
    typer.echo(
        f"{len(moves):,} of {len(found):,} files to move; ${spent:,.6f} a month now, "
        f"${will:,.6f} then: {share:.1%} less, ${(spent - will) * 12:,.6f} a year."
    )
    return lake, policy, moves


def _target(target: str | None) -> str | None:
    return target or os.environ.get("DBT_TARGET")
