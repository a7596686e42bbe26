"""`lakebed backfill`."""

from __future__ import annotations

import json
import shlex
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from lakebed.errors import UserError
from lakebed.options import ProfilesDir, ProjectDir, Target, project_of

if TYPE_CHECKING:
    from lakebed.backfill import Backfill, Difference, Interval

_FORMATS = ["%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"]


def backfill(
    select: Annotated[str, typer.Argument(help="Microbatch models, as for dbt's --select.")],
    start: Annotated[datetime, typer.Option(formats=_FORMATS, help="First moment, UTC.")],
    end: Annotated[datetime, typer.Option(formats=_FORMATS, help="First moment after, UTC.")],
    batches: Annotated[int, typer.Option(min=1, help="Batches in one step.")] = 30,
    at_most: Annotated[
        int | None, typer.Option(min=1, help="Steps to do now: look at one before the others.")
    ] = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be done.")] = False,
    again: Annotated[
        bool, typer.Option(help="Begin anew, though it was begun or finished before.")
    ] = False,
    undo: Annotated[
        bool, typer.Option(help="Put the old rows of the span back, and nothing else.")
    ] = False,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Run microbatch models anew over a span of event time, and show what that changed.

    Stopped or killed, the same command goes on. Example: lakebed backfill fct_visits --start
    2017-01-01 --end 2017-04-01
    """
    from lakebed import backfill as work
    from lakebed.work import at_work

    if undo and (dry_run or again or at_most):
        raise UserError("--undo goes with no other option than the span.")
    project = project_of(target, project_dir, profiles_dir)
    if undo:
        found = work.last_attempt(project, select, start, end)
        with at_work(project, "lakebed backfill"):
            _show_tables(work.undo(project, found))
        typer.echo("The span is what it was before the backfill.")
        _show_below(found)
        return
    found = work.prepare(project, select, start, end, batches, again)
    typer.echo(
        f"{len(found.steps)} steps from {work.text(start)} to {work.text(end)}"
        + (f", {len(found.done)} of them done" if found.done else "")
    )
    if dry_run:
        for step in found.left:
            _show(step, work.compare(project, found, "none", *step), dry=True)
        _show_below(found)
        return
    with at_work(project, "lakebed backfill"):
        result = work.run(project, found, at_most, _show)
    if result is None:
        typer.echo("Steps are left: the same command goes on, `--undo` puts the old rows back.")
        return
    typer.echo("Finished. The whole span:")
    _show_tables(result)
    for table in result:
        if table["outside"]:
            typer.echo(
                f"  {table['table']}: {table['outside']:,} rows outside of the span changed "
                "meanwhile; a backfill does not touch them"
            )
    typer.echo("`--undo` puts the old rows back while they have their tag. To let go of them:")
    for name in found.tables:
        arguments = shlex.quote(json.dumps({"relation": name["table"], "name": found.tag}))
        typer.echo(f"  dbt run-operation untag --args {arguments}")
    _show_below(found)


def _show(step: Interval, tables: list[Difference], dry: bool = False) -> None:
    typer.echo(f"{step[0]:%Y-%m-%d %H:%M} to {step[1]:%Y-%m-%d %H:%M}")
    _show_tables(tables, dry)


def _show_tables(tables: list[Difference], dry: bool = False) -> None:
    for table in tables:
        counts = f"{table['before']:>11,} rows"
        if not dry:
            counts += f" became {table['after']:,}: {table['gone']:,} gone, {table['new']:,} new"
        typer.echo(f"  {counts}  {table['table']}")


def _show_below(found: Backfill) -> None:
    if found.below:
        typer.echo(
            f"Made from them, and not run: {', '.join(found.below)}. "
            f"`dbt build --select {' '.join(found.below)}` builds them."
        )
