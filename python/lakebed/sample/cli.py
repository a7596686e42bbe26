"""`lakebed sample`: land the sample data."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lakebed.sample import retail as chain
from lakebed.sample.writer import SampleError

app = typer.Typer(no_args_is_help=True, help="Land sample data to try Lakebed with.")


@app.callback()
def sample() -> None:
    """Land sample data to try Lakebed with."""


@app.command()
def retail(
    landing: Annotated[
        Path, typer.Option(envvar="LAKEBED_LANDING", help="The landing folder.")
    ] = Path("data/landing"),
    first: Annotated[
        datetime,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day; master data always comes."),
    ] = datetime(2017, 1, 1),
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last day of delivery (inclusive)."),
    ] = None,
    promotion_weeks: Annotated[
        int, typer.Option(min=0, max=chain.WEEKS, help="Weeks of promotions, 0.4 M lines each.")
    ] = 4,
    full: Annotated[bool, typer.Option("--full", help="All 53 weeks of promotions.")] = False,
    faults: Annotated[
        int | None,
        typer.Option(help="Seed: inject faults, and write the truth to retail/_truth.csv."),
    ] = None,
    rate: Annotated[
        float, typer.Option(min=0, max=0.5, help="Share of the sales lines that get a fault.")
    ] = 0.01,
    force: Annotated[
        bool, typer.Option("--force", help="Empty the folder retail/ in the landing folder first.")
    ] = False,
) -> None:
    """Land a year of a grocery chain: real sales, households, products and promotions.

    Needs the extra 'samples' of lakebed. Running it again changes nothing; a later --until
    adds the days in between.

    Example: lakebed sample retail --until 2017-03-31 --faults 7
    """
    options = chain.Options(
        landing=landing,
        first=first.date(),
        until=until.date() if until else date.max,
        promotion_weeks=chain.WEEKS if full else promotion_weeks,
        faults=faults,
        rate=rate,
        force=force,
    )
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    try:
        with bar:
            task = bar.add_task("Landing", total=None)
            summary = chain.land(
                options,
                lambda name, files: bar.update(task, description=name, total=files, advance=1),
            )
    except SampleError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    files = summary.written + summary.unchanged
    typer.echo(
        f"{landing / chain.SOURCE}: {files} files, {summary.bytes / 1e6:.1f} MB; "
        f"{summary.written} written, {summary.unchanged} were there already"
        + (f"; {len(summary.faults)} faults, see {chain.TRUTH}" if faults is not None else "")
        + "."
    )
