"""`lakebed maintain`: plan, run."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from lakebed.errors import UserError
from lakebed.options import ProfilesDir, ProjectDir, Target, project_of

if TYPE_CHECKING:
    from lakebed.maintain.policy import Action

app = typer.Typer(no_args_is_help=True, help="Keep the lake's files few, large and needed.")


@app.command()
def plan(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Say what the lake needs, why, what it costs and what it gives; change nothing.

    Example: lakebed maintain plan
    """
    from rich.console import Console
    from rich.table import Table

    from lakebed.maintain import policy
    from lakebed.maintain.run import measure

    found = policy.plan(measure(project_of(target, project_dir, profiles_dir)))
    if as_json:
        actions = [action.as_dict() for action in found.actions]
        typer.echo(json.dumps({"actions": actions, "notes": found.notes, "tables": found.tables}))
        return
    if found.actions:
        table = Table("action", "table", "why", box=None, header_style="bold")
        table.add_column("rewrites MB", justify="right")
        table.add_column("then")
        for action in found.actions:
            cost = f"{action.cost / 1e6:,.1f}"
            table.add_row(action.action, _name(action), action.reason, cost, action.benefit)
        Console(width=None if sys.stdout.isatty() else 200).print(table)
    _notes(found.notes)
    typer.echo(f"{len(found.actions)} actions for {found.tables} tables.")


@app.command()
def run(
    budget: Annotated[
        str | None, typer.Option(help="Begin nothing after this time, e.g. 30m, 2h or 90s.")
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Do what the plan says, the most needed first. Killed, it is run again.

    Example: lakebed maintain run --budget 30m
    """
    from lakebed.maintain import policy
    from lakebed.maintain import run as runs
    from lakebed.work import at_work

    seconds = _seconds(budget) if budget else None
    project = project_of(target, project_dir, profiles_dir)
    found = policy.plan(runs.measure(project))
    _notes(found.notes)
    if not found.actions:
        typer.echo(f"Nothing to do for {found.tables} tables.")
        return

    def tell(at: int, text: str) -> None:
        action = found.actions[at]
        place = f"[{at + 1}/{len(found.actions)}] {action.action} {_name(action)}"
        typer.echo(f"{place}: {text or action.reason + ' ...'}")

    with at_work(project, "lakebed maintain"):
        wrong = runs.execute(project, found, seconds, tell)
    if wrong:
        raise UserError("\n  ".join(["not everything went well:", *wrong]))


def _name(action: Action) -> str:
    return "the whole lake" if action.table == "*" else action.table


def _notes(notes: list[str]) -> None:
    for note in notes:
        typer.echo(f"Note: {note}.")


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smh]?)", text.strip())
    if not match:
        raise UserError(f"--budget is a time such as 30m, 2h or 90s, not '{text}'.")
    return int(match[1]) * {"s": 1, "m": 60, "h": 3600, "": 60}[match[2]]
