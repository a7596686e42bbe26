"""`lakebed stream`: the command."""

from __future__ import annotations

import gc
import os
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lakebed.errors import UserError
from lakebed.ingest.build import Command, Every, Rows, Select, building
from lakebed.ingest.stop import graceful_stop
from lakebed.options import ProfilesDir, ProjectDir, Target

#: What a server is told, whatever it takes.
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")]
MetricsPort = Annotated[
    int | None, typer.Option(min=1, max=65535, help="Answer Prometheus on this port of 127.0.0.1.")
]
FailAt = Annotated[str | None, typer.Option(help="For tests: die there, as in `lakebed stream`.")]


def stream(
    config: Annotated[Path, typer.Argument(help="The stream's YAML file.")],
    once: Annotated[
        bool, typer.Option("--once", help="End when all that is there has been written.")
    ] = False,
    skip_lost: Annotated[
        bool,
        typer.Option("--skip-lost", help="Go on when the broker has already deleted records."),
    ] = False,
    build: Command = None,
    select: Select = None,
    build_every: Every = 5.0,
    build_rows: Rows = 1,
    patience: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for a busy lake; for ever if absent."),
    ] = None,
    status_every: Annotated[
        float, typer.Option(min=0.1, help="Seconds between two lines of status.")
    ] = 10,
    metrics_port: MetricsPort = None,
    fail_at: Annotated[
        str | None,
        typer.Option(
            help="For tests: die (SIGKILL) at POINT, POINT:COUNT or random:SEED:CHANCE.",
            show_default=False,
        ),
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Take Kafka topics into bronze, each record once; what cannot be read goes to the DLQ.

    The file names the stream, librdkafka's settings, and a table for each topic:

        name: web
        kafka: {bootstrap.servers: "localhost:9092"}
        topics: {clicks: web__clicks}

    With --build it also builds the models that read the topics' tables, as records come.

    Ctrl-C (or SIGTERM) writes what was read and ends; a second one ends at once, which loses
    nothing either. Points of --fail-at: received, begun, rows-written, dlq-written,
    positions-moved, committed, acknowledged.

    Example: lakebed stream streams/web.yml --once
    """
    try:
        from lakebed.ingest.kafka import KafkaStream
    except ImportError as error:
        raise UserError("Kafka needs a package more: pip install 'lakebed[kafka]'") from error
    from lakebed.ingest.config import read_stream
    from lakebed.ingest.faults import Faults
    from lakebed.ingest.metrics import serving
    from lakebed.ingest.patience import Patience
    from lakebed.ingest.sinks import open_sink
    from lakebed.lineage.arrivals import of_stream
    from lakebed.lineage.tell import telling
    from lakebed.project import open_target, project_folder

    settings = read_stream(config)
    faults = Faults(fail_at)
    folders = (
        project_folder(project_dir).absolute(),
        profiles_dir.absolute() if profiles_dir else None,
    )
    lake = open_target(target, project_dir, profiles_dir)
    # Relative paths of profiles.yml count from the project, as they do for dbt.
    os.chdir(project_folder(project_dir))

    def say(line: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S', time.gmtime())} {settings.name}: {line}", err=True)

    with graceful_stop() as stop:
        entities = list(settings.topics.values())
        wait = Patience(patience, say=say, stop=stop)
        with (
            open_sink(lake, settings.name, entities, wait, faults) as sink,
            building(build, select, build_every, build_rows, sink, folders, say) as builder,
            telling(settings.name, of_stream(settings), lake, say),
        ):
            work = KafkaStream(settings, sink, say, stop, faults, once, skip_lost, builder)
            done = threading.Event()
            reporter = threading.Thread(
                target=_report, args=(work, say, done, status_every), daemon=True
            )
            reporter.start()
            # Records are many objects and in no cycle: to look for one at each 700 of them takes a
            # seventh of the time. What is loaded by now stays; an error's frames, which may be in
            # one, go after a few batches.
            gc.freeze()
            gc.set_threshold(50_000, 5, 5)
            try:
                with serving(
                    metrics_port,
                    settings.name,
                    sink.meter,
                    lambda: sink.patience.failures,
                    lambda: work.known_lag,
                ):
                    totals = work.run()
            finally:
                done.set()
    typer.echo(
        f"{settings.name}: {totals.rows:,} rows, {totals.rejected:,} to the DLQ,"
        f" {totals.batches:,} batches."
    )


def _report(work: Any, say: Any, done: threading.Event, every: float) -> None:
    """A line of status now and then: rows, rate since the last line, DLQ, lag."""
    before, then = 0, time.monotonic()
    while not done.wait(every):
        if not work.reading:
            continue
        now, rows = time.monotonic(), work.totals.rows
        say(
            f"{rows:,} rows, {(rows - before) / (now - then):,.0f}/s, "
            f"{work.totals.rejected:,} to the DLQ, lag {work.known_lag:,}"
            f"{work.sink.meter.building}"
        )
        before, then = rows, now


def webhook(
    config: Annotated[Path, typer.Argument(help="The webhooks' YAML file.")],
    host: Host = "127.0.0.1",
    port: Port = 8088,
    metrics_port: MetricsPort = None,
    fail_at: FailAt = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Take signed webhooks into bronze; an answer of 2xx means committed to the lake.

    Signatures: Standard Webhooks, GitHub's and Stripe's.

    The file names the endpoints; each is POST /webhooks/<endpoint>:

        name: shop
        endpoints:
          orders: {table: shop__orders, secret: "{{ env_var('ORDERS_SECRET') }}"}

    Example: lakebed webhook webhooks.yml --host 0.0.0.0 --port 8088
    """
    _listen(config, host, port, metrics_port, fail_at, (target, project_dir, profiles_dir))


def gateway(
    config: Annotated[Path, typer.Argument(help="The gateway's YAML file.")],
    host: Host = "127.0.0.1",
    port: Port = 8089,
    metrics_port: MetricsPort = None,
    fail_at: FailAt = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Take batches of devices (`lakebed.edge`) into bronze, each record once; 2xx means committed.

    The file names the endpoints, as that of webhooks; each is POST /edge/<endpoint>:

        name: edge
        endpoints:
          pumps: {table: edge__pumps, secret: "{{ env_var('PUMPS_SECRET') }}"}

    Example: lakebed gateway edge.yml --host 0.0.0.0 --port 8089
    """
    _listen(config, host, port, metrics_port, fail_at, (target, project_dir, profiles_dir), True)


def _listen(
    config: Path,
    host: str,
    port: int,
    metrics_port: int | None,
    fail_at: str | None,
    project: tuple[str | None, Path | None, Path | None],
    devices: bool = False,
) -> None:
    """Serve messages, or batches of devices."""
    try:
        import uvicorn

        from lakebed.ingest.gateway import PATH, GatewayWriter, taker
        from lakebed.ingest.webhook import Writer, make_app, read_webhooks
    except ImportError as error:
        what = "The gateway needs" if devices else "Webhooks need"
        raise UserError(f"{what} packages more: pip install 'lakebed[http]'") from error
    from lakebed.ingest.faults import Faults
    from lakebed.ingest.metrics import serving
    from lakebed.ingest.patience import Patience
    from lakebed.ingest.sinks import open_sink
    from lakebed.lineage.arrivals import of_webhook
    from lakebed.lineage.tell import telling
    from lakebed.project import open_target, project_folder

    settings = read_webhooks(config)
    faults = Faults(fail_at)
    lake = open_target(*project)
    os.chdir(project_folder(project[1]))

    def say(line: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S', time.gmtime())} {settings.name}: {line}", err=True)

    entities = [endpoint.entity for endpoint in settings.endpoints.values()]
    wait = Patience(settings.patience, say=say)
    with open_sink(lake, settings.name, entities, wait, faults, repeatable=False) as sink:
        if devices:
            writer = GatewayWriter(settings, sink, say, faults)
            app, path = make_app(settings, writer, PATH, taker(settings, writer)), PATH
        else:
            app, path = make_app(settings, Writer(settings, sink, say, faults)), "webhooks"
        say(f"Listening on http://{host}:{port}/{path}/ for {', '.join(settings.endpoints)}.")
        with (
            serving(metrics_port, settings.name, sink.meter, lambda: wait.failures),
            telling(settings.name, of_webhook(settings, host, port, path), lake, say),
        ):
            uvicorn.run(
                app,
                host=host,
                port=port,
                log_level="error",
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=30,
            )
