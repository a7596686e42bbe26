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


@app.command()
def web(
    to: Annotated[
        str,
        typer.Option(
            help="kafka://host:9092/topic, a stream's file, a file for JSON lines, - for standard "
            "output, or the URL of a webhook (its secret in LAKEBED_WEBHOOK_SECRET)."
        ),
    ],
    first: Annotated[
        datetime, typer.Option("--from", formats=["%Y-%m-%d"], help="First day of baskets.")
    ] = datetime(2017, 1, 1),
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Last day (inclusive); the first if absent."),
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="1: as fast as it happened; 0: as fast as it goes.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Another seed has other sessions and faults.")] = 7,
    disorder: Annotated[
        float, typer.Option(min=0, max=1, help="Share that is held up for up to --within.")
    ] = 0,
    within: Annotated[float, typer.Option(min=0, help="Seconds: the bound of disorder.")] = 300,
    late: Annotated[
        float, typer.Option(min=0, max=1, help="Share that is held up for --late-by.")
    ] = 0,
    late_by: Annotated[float, typer.Option(min=0, help="Seconds.")] = 3600,
    duplicates: Annotated[float, typer.Option(min=0, max=1, help="Share that comes twice.")] = 0,
    again_within: Annotated[
        float, typer.Option(min=0, help="Seconds after which the second has come.")
    ] = 300,
    malformed: Annotated[float, typer.Option(min=0, max=1, help="Share that is damaged.")] = 0,
    truth: Annotated[
        Path | None, typer.Option(help="CSV: each event, where it was sent, what was done to it.")
    ] = None,
) -> None:
    """Replay the chain's real baskets as events of a web shop: sessions, pages, carts, purchases.

    In the order they reach a broker, with faults from a seed and the truth about each. Needs the
    extra 'samples' of lakebed, and 'kafka' or 'http'.

    Example: lakebed sample web --to streams/web.yml --until 2017-01-07 --disorder 0.2 --late 0.01
    """
    from lakebed.sample import web as shop
    from lakebed.sample.destinations import destination

    options = shop.Options(
        first=first.date(),
        until=(until or first).date(),
        seed=seed,
        disorder=disorder,
        within=within,
        late=late,
        late_by=late_by,
        duplicates=duplicates,
        again_within=again_within,
        malformed=malformed,
    )
    console = Console(stderr=True)
    columns = (TextColumn("Sending"), TextColumn("{task.completed:,.0f} events"))
    bar = Progress(
        *columns,
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    try:
        with bar:
            task = bar.add_task("", total=None)
            summary = shop.replay(
                options,
                destination(to),
                speed,
                truth,
                lambda sent: bar.update(task, completed=sent) if sent % 1000 == 0 else None,
            )
    except SampleError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    faults = ", ".join(f"{count:,} {fault}" for fault, count in sorted(summary.faults.items()))
    typer.echo(
        f"{summary.events:,} events{f' ({faults})' if faults else ''}; purchases that must come "
        f"out: {summary.revenue:,.2f} dollars.",
        err=to == "-",
    )


@app.command()
def saas(
    until: Annotated[
        datetime,
        typer.Option(formats=["%Y-%m-%d"], help="The simulated day to live up to (inclusive)."),
    ] = datetime(2024, 12, 31),
    seed: Annotated[int, typer.Option(help="Another seed is another business.")] = 7,
    postgres: Annotated[
        str | None,
        typer.Option(
            envvar="LAKEBED_SAAS_POSTGRES",
            help="URL of a database to make it in; if absent a server of its own is started.",
        ),
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the server of its own has its files.")] = Path(
        "data/saas"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535, help="Its port on 127.0.0.1.")] = 54329,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the server of its own.")] = False,
) -> None:
    """Run a subscription business on PostgreSQL: users, plans, subscriptions, payments, an outbox.

    Sign-ups, upgrades, churn, refunds, corrections, deletes, changes of keys and of the schema, a
    year in some seconds, from 2024-01-01; its own ledger (schema ledger) is the truth to compare
    with. Running it again goes on where it was. Needs the extras 'cdc' and 'team' of lakebed.

    Example: lakebed sample saas --until 2024-06-30
    """
    try:
        import psycopg

        from lakebed.sample.postgres import Server
        from lakebed.sample.saas import Application
    except ImportError:
        typer.echo("Error: This needs packages more: pip install 'lakebed[cdc,team]'", err=True)
        raise typer.Exit(1) from None
    server = Server(folder.absolute(), port)
    try:
        if stop:
            if server.running():
                server.stop()
            return
        if not postgres and not server.running():
            folder.parent.mkdir(parents=True, exist_ok=True)
            server.start()
        url = postgres or server.url
        with Application(url, seed) as application:
            application.create()
            steps = application.run(until.date())
            counts = application.counts()
    except SampleError as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from None
    except psycopg.Error as error:
        typer.echo(f"Error: PostgreSQL says: {str(error).splitlines()[0]}", err=True)
        raise typer.Exit(1) from None
    typer.echo(
        f"{steps:,} transactions; "
        + ", ".join(f"{rows:,} {table}" for table, rows in counts.items())
        + (
            "."
            if postgres
            else f". PostgreSQL runs at {url}; `lakebed sample saas --stop` ends it."
        )
    )
