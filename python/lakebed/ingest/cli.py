"""`lakebed ingest`: feed the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lakebed.ingest.stop import graceful_stop
from lakebed.ingest.trigger import Thresholds
from lakebed.options import ProfilesDir, ProjectDir, Target

app = typer.Typer(no_args_is_help=True, help="Feed the lake.")


@app.callback()
def ingest() -> None:
    """Feed the lake."""


@app.command()
def files(
    watch: Annotated[
        float | None,
        typer.Option(min=0.1, help="Keep looking, every so many seconds; else load once and end."),
    ] = None,
    min_files: Annotated[
        int, typer.Option(min=0, help="With --watch: load when so many files wait.")
    ] = 0,
    min_bytes: Annotated[
        int, typer.Option(min=0, help="With --watch: load when so many bytes wait.")
    ] = 0,
    max_age: Annotated[
        float,
        typer.Option(min=0, help="With --watch: load when a file has waited so many seconds."),
    ] = 0,
    max_files: Annotated[int, typer.Option(min=0, help="Files of one batch; 0: all.")] = 0,
    max_bytes: Annotated[int, typer.Option(min=0, help="Bytes of one batch; 0: all.")] = 0,
    source: Annotated[str | None, typer.Option(help="Only <landing>/SOURCE.")] = None,
    entity: Annotated[str | None, typer.Option(help="Only <landing>/*/ENTITY.")] = None,
    landing: Annotated[
        Path | None, typer.Option(help="The landing folder; else as the project says.")
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Load files that have landed into bronze, each once, in batches by count, size or age.

    With --watch a batch starts as soon as one of --min-files, --min-bytes and --max-age holds;
    with none of them, as soon as there is a file. Ctrl-C (or SIGTERM) ends it after the batch at
    hand; a second one at once, and the batch is rolled back.

    Example: lakebed ingest files --watch 10 --min-files 100 --max-age 300 --max-files 500
    """
    from lakebed.ingest import files as loader

    thresholds = Thresholds(min_files, min_bytes, max_age)
    if thresholds.given and watch is None:
        raise typer.BadParameter(
            "--min-files, --min-bytes and --max-age say when to load while watching: add --watch "
            "SECONDS, or leave them out to load now."
        )
    options = loader.Options(
        project_dir=project_dir,
        profiles_dir=profiles_dir,
        target=target,
        landing=landing,
        source=source,
        entity=entity,
        max_files=max_files,
        max_bytes=max_bytes,
        watch=watch,
        thresholds=thresholds,
    )
    with graceful_stop() as stop:
        loader.ingest(options, typer.echo, stop)
        if stop.is_set():
            typer.echo("Stopped.", err=True)
