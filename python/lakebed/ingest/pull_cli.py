"""`lakebed pull`: the command."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from lakebed.errors import UserError
from lakebed.ingest.stop import graceful_stop
from lakebed.options import ProfilesDir, ProjectDir, Target


def pull(
    config: Annotated[Path, typer.Argument(help="The pull's YAML file.")],
    every: Annotated[
        float | None,
        typer.Option(min=0.1, help="Pull again, every so many seconds; else once, and end."),
    ] = None,
    patience: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for a busy lake; for ever if absent."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Answer Prometheus on this port of 127.0.0.1."),
    ] = None,
    fail_at: Annotated[
        str | None,
        typer.Option(help="For tests: die there, as in `lakebed stream`.", show_default=False),
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Take an HTTP API's records into bronze, each once; what cannot be read goes to the DLQ.

    The file names the API, and a table for each resource:

        name: shop
        url: https://api.example.com/v1
        auth: {bearer: "{{ env_var('SHOP_TOKEN') }}"}
        resources:
          orders: {path: /orders, table: shop__orders, records: data, id: id,
                   pages: {by: cursor, param: after, next: next_cursor}}

    Ctrl-C (or SIGTERM) ends it after the page at hand; killed at any time it loses nothing.

    Example: lakebed pull pulls/shop.yml --every 60
    """
    try:
        from lakebed.ingest.requests import Requests
    except ImportError as error:
        raise UserError("HTTP needs packages more: pip install 'lakebed[http]'") from error
    from lakebed.ingest.breaker import Breaker
    from lakebed.ingest.faults import Faults
    from lakebed.ingest.metrics import serving
    from lakebed.ingest.patience import Patience, TryLater
    from lakebed.ingest.pull import Puller
    from lakebed.ingest.pull_config import read_pull
    from lakebed.ingest.sinks import open_sink
    from lakebed.lineage.arrivals import of_pull
    from lakebed.lineage.tell import telling
    from lakebed.project import open_target, project_folder

    settings = read_pull(config)
    faults = Faults(fail_at)
    lake = open_target(target, project_dir, profiles_dir)
    os.chdir(project_folder(project_dir))

    def say(line: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S', time.gmtime())} {settings.name}: {line}", err=True)

    with graceful_stop() as stop:
        wait = Patience(patience, say=say, stop=stop)
        entities = [resource.entity for resource in settings.resources.values()]
        with (
            open_sink(lake, settings.name, entities, wait, faults, repeatable=False) as sink,
            Requests(
                settings, say, stop, Breaker(sink, settings.origin, settings.fuse, say)
            ) as requests,
            serving(
                metrics_port,
                settings.name,
                sink.meter,
                lambda: wait.failures + requests.failures,
            ),
            telling(settings.name, of_pull(settings), lake, say),
        ):
            puller = Puller(settings, sink, requests, say, stop, faults)
            while True:
                try:
                    puller.run()
                except TryLater as error:
                    if every is None:
                        raise UserError(
                            f"{error}; tried for {settings.retry:g} s. What was read is in the "
                            "lake: run the same command later, it goes on there."
                        ) from error
                    say(f"{error}; next try in {every:g} s.")
                if every is None or stop.wait(every):
                    break
        totals = puller.totals
    typer.echo(
        f"{settings.name}: {totals.rows:,} rows, {totals.rejected:,} to the DLQ,"
        f" {totals.known:,} known before, {totals.pages:,} pages."
    )


def breakers(
    close: Annotated[
        str | None, typer.Option("--close", help="Close the circuit to this dependency by hand.")
    ] = None,
    patience: Annotated[float, typer.Option(min=0, help="Seconds to wait for a busy lake.")] = 60,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """What the sidecars leave alone because it keeps failing: state, failures, next try, reason.

    Example: lakebed breakers --close https://api.example.com
    """
    from lakebed.ingest import breaker
    from lakebed.ingest.patience import Patience
    from lakebed.ingest.sinks import open_sink
    from lakebed.project import open_target, project_folder

    lake = open_target(target, project_dir, profiles_dir)
    found = breaker.circuits(lake)
    if close is not None:
        if close not in [circuit.dependency for circuit in found]:
            raise UserError(f"No circuit {close}: `lakebed breakers` names them.")
        os.chdir(project_folder(project_dir))
        with open_sink(lake, "breakers", [], Patience(patience)) as sink:
            breaker.close(sink, close)
        typer.echo(f"{close}: closed.")
        return
    for each in found:
        then = f", next try {each.retry_at:%Y-%m-%d %H:%M:%S}" if each.retry_at else ""
        why = f" ({each.reason})" if each.reason else ""
        typer.echo(f"{each.dependency}: {each.state}, {each.failures} failures{then}{why}")
    if not found:
        typer.echo("Nothing has failed.")
