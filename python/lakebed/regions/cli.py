"""`lakebed consolidate`: plan, run, status."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakebed.errors import UserError
from lakebed.options import ProfilesDir, ProjectDir, Target

if TYPE_CHECKING:
    from lakebed.project import Lake, SparkLake
    from lakebed.regions.run import Delivery

app = typer.Typer(no_args_is_help=True, help="Regional lakes into a central one, masked.")

File = Annotated[Path, typer.Argument(help="The regions' YAML file.")]
Only = Annotated[
    list[str] | None, typer.Option("--region", help="Only this region; more than once for more.")
]
Wait = Annotated[float, typer.Option("--patience", min=0, help="Seconds to wait for a busy lake.")]
NewKey = Annotated[
    bool, typer.Option("--new-key", help="Go on although a region's key is not that of before.")
]


@app.callback()
def consolidate() -> None:
    """Regional lakes into a central one, masked."""


@app.command()
def run(
    file: File,
    region: Only = None,
    rows: Annotated[
        int | None,
        typer.Option(min=1, help="Rows of one transaction; 500,000, on Spark 50,000."),
    ] = None,
    patience: Wait = 30,
    new_key: NewKey = False,
    fail_at: Annotated[
        str | None, typer.Option(help="For tests: die there, as in `lakebed stream`.")
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Bring what is new in the regions' tables into the central lake, each row once.

    A column goes only as the file says; one that the file does not name holds its table back.
    Regions that are away, and tables that are held back, are named; the others go on, and the
    command ends with 1. Killed, it is run again.

    Example: lakebed consolidate run regions.yml --region eu
    """
    from lakebed.ingest.faults import Faults
    from lakebed.ingest.patience import Patience
    from lakebed.project import Lake
    from lakebed.regions.config import read_regions
    from lakebed.regions.run import ROWS, ROWS_ON_SPARK, Consolidation

    regions = read_regions(file.absolute())
    _known(region, regions.regions)
    faults = Faults(fail_at)
    lake = _lake(target, project_dir, profiles_dir)
    rows = rows or (ROWS if isinstance(lake, Lake) else ROWS_ON_SPARK)
    work = Consolidation(regions, lake, Patience(patience), faults, rows, new_key)
    _tell(work.run(region or ()), "brought", "nothing new")


@app.command()
def plan(
    file: File,
    region: Only = None,
    patience: Wait = 30,
    new_key: NewKey = False,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Say what would be brought, what is done to each column, what is held back; change nothing.

    Example: lakebed consolidate plan regions.yml
    """
    from lakebed.ingest.patience import Patience
    from lakebed.regions.config import read_regions
    from lakebed.regions.run import Consolidation

    regions = read_regions(file.absolute())
    _known(region, regions.regions)
    lake = _lake(target, project_dir, profiles_dir)
    for each in regions.shipments:
        typer.echo(f"{each.source} to bronze.{each.target}:")
        for name, rule in each.rules.items():
            typer.echo(f"  {name}: {rule if isinstance(rule, str) else _paths(rule)}")
    work = Consolidation(regions, lake, Patience(patience), new_key=new_key)
    _tell(work.plan(region or ()), "would bring", "nothing new")


@app.command()
def status(
    file: File,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """How far the central lake is with each region and table. Asks no region.

    Example: lakebed consolidate status regions.yml
    """
    from rich.console import Console
    from rich.table import Table

    from lakebed.ingest.sinks import reading
    from lakebed.regions.config import read_regions

    regions = read_regions(file.absolute())
    positions = f"ops.positions__{regions.name}"
    table = Table("region", "table", "up to batch", "moved at", box=None, header_style="bold")
    with reading(_lake(target, project_dir, profiles_dir)) as lake:
        found = {}
        if lake.columns(positions):
            rows = lake.query(
                f"select topic, position - 1, moved_at from {positions} where topic != '*'"
            )
            found = {topic: (batch, moved) for topic, batch, moved in rows}
    for each in regions.shipments:
        for name in each.regions:
            batch, moved = found.get(f"{name}/{each.target}", ("never", ""))
            table.add_row(
                name, each.target, str(batch), f"{moved:%Y-%m-%d %H:%M:%S}" if moved else ""
            )
    Console().print(table)


def _lake(
    target: str | None, project_dir: Path | None, profiles_dir: Path | None
) -> Lake | SparkLake:
    from lakebed.project import open_target, project_folder

    lake = open_target(target, project_dir, profiles_dir)
    # Relative paths of profiles.yml count from the project, as they do for dbt.
    os.chdir(project_folder(project_dir))
    return lake


def _known(chosen: list[str] | None, regions: Iterable[str]) -> None:
    for name in chosen or ():
        if name not in regions:
            raise UserError(f"There is no region {name}; there are {', '.join(regions)}.")


def _paths(rule: dict[str, object], before: str = "") -> str:
    """A tree of JSON paths, in one line."""
    return ", ".join(
        _paths(each, f"{before}{name}.") if isinstance(each, dict) else f"{before}{name}: {each}"
        for name, each in rule.items()
    )


def _tell(deliveries: Iterable[Delivery], verb: str, nothing: str) -> None:
    troubles = 0
    for each in deliveries:
        name = f"{each.region}/{each.table}"
        if each.trouble:
            troubles += 1
            typer.echo(f"{name}: NOT BROUGHT: {each.trouble}", err=True)
        elif each.rows or each.batches:
            typer.echo(
                f"{name}: {verb} {each.rows:,} rows, {each.batches:,} batches up to {each.until}."
            )
        else:
            typer.echo(f"{name}: {nothing}.")
    if troubles:
        raise UserError(f"{troubles} of the regions or tables could not go; see above.")
