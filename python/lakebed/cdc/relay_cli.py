"""`lakebed relay`: the command."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

import typer

from lakebed.errors import UserError
from lakebed.ingest.stop import graceful_stop
from lakebed.options import ProfilesDir, ProjectDir, Target


def relay(
    config: Annotated[Path, typer.Argument(help="The relay's YAML file.")],
    once: Annotated[bool, typer.Option("--once", help="End when nothing is new.")] = False,
    patience: Annotated[
        float | None,
        typer.Option(min=0, help="Seconds to wait for a busy lake or Kafka; for ever if absent."),
    ] = None,
    fail_at: Annotated[
        str | None,
        typer.Option(
            help="For tests: die (SIGKILL) at received, begun, produced, position-sent, committed.",
            show_default=False,
        ),
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Send the events of an outbox, as `lakebed capture` has it in bronze, to Kafka, each once.

    An event's key is its aggregateid, so those of one aggregate stay in the order of their commits.
    The headers are its id and type. The file:

        name: saas
        outbox: saas__outbox              # in bronze; columns as Debezium's event router wants
        kafka: {bootstrap.servers: "localhost:9092"}
        topic: "{aggregatetype}.events"   # {type} may be in it, too

    Example: lakebed relay streams/relay.yml --once
    """
    try:
        from lakebed.cdc.relay import POINTS, Relay, read_relay
    except ImportError as error:
        raise UserError("Kafka needs a package more: pip install 'lakebed[kafka]'") from error
    from lakebed.ingest.faults import Faults
    from lakebed.ingest.patience import Patience, TryLater
    from lakebed.project import open_lake, project_folder

    settings = read_relay(config)
    faults = Faults(fail_at, POINTS)
    lake = open_lake(target, project_dir, profiles_dir)
    os.chdir(project_folder(project_dir))

    def say(line: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S', time.gmtime())} {settings.name}: {line}", err=True)

    with graceful_stop() as stop:
        work = Relay(settings, lake, Patience(patience, say=say, stop=stop), faults)
        try:
            sent = work.run(stop, once, say)
        except TryLater as error:
            raise UserError(f"{error}. What was not sent is sent by the next run.") from error
    typer.echo(f"{settings.name}: {sent:,} events sent.")
