"""`lakebed dlq`: the commands."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakebed.errors import UserError
from lakebed.options import ProfilesDir, ProjectDir, Target

if TYPE_CHECKING:
    from lakebed.ingest.dlq import Place
    from lakebed.ingest.records import Entity

app = typer.Typer(no_args_is_help=True, help="What was refused: look, deliver after a fix, let go.")

Ids = Annotated[list[str] | None, typer.Argument(help="Records, as `list` names them.")]
OfStream = Annotated[str | None, typer.Option("--stream", help="Only records of this stream.")]
OfCategory = Annotated[
    str | None, typer.Option("--category", help="Only malformed, schema or processing.")
]
Wait = Annotated[float, typer.Option("--patience", min=0, help="Seconds to wait for a busy lake.")]


@app.callback()
def dlq() -> None:
    """What was refused: look, deliver after a fix, let go."""


@app.command("list")
def list_(
    stream: OfStream = None,
    category: OfCategory = None,
    status: Annotated[str, typer.Option(help="open, replayed or discarded.")] = "open",
    limit: Annotated[int, typer.Option(min=0, help="Records to name.")] = 20,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Count what was refused, and name the first records.

    Example: lakebed dlq list --category schema
    """
    from lakebed.ingest import dlq as work
    from lakebed.project import open_target

    lake = open_target(target, project_dir, profiles_dir)
    if status not in work.STATUSES:
        raise UserError(f"--status is {', '.join(work.STATUSES)}, not {status}.")
    counts, records = work.listing(lake, work.Selection((), stream, category, status), limit)
    for name, table, kind, state, count, first, last in counts:
        typer.echo(f"{name} -> {table}: {count:,} {kind}, {state}, from {first} to {last}")
    if not counts:
        typer.echo("Nothing was refused.")
    for name, kind, reason, attempts, first in records:
        typer.echo(f"  {name}  {kind}: {reason}  ({attempts} attempts, {first:%Y-%m-%d %H:%M:%S})")


@app.command()
def show(
    dlq_id: Annotated[str, typer.Argument(help="A record, as `list` names it.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="The bytes of the value, and nothing else.")
    ] = False,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Show one record: where it came from, why it was refused, its bytes.

    Example: lakebed dlq show web:clicks:0:17 --raw > record.json
    """
    from lakebed.ingest import dlq as work
    from lakebed.project import open_target

    record = work.show(open_target(target, project_dir, profiles_dir), dlq_id)
    if raw:
        typer.get_binary_stream("stdout").write(record["record_value"] or b"")
        return
    for name, value in record.items():
        typer.echo(f"{name}: {value!r}" if isinstance(value, bytes) else f"{name}: {value}")


@app.command()
def replay(
    config: Annotated[
        Path, typer.Argument(help="The YAML file of the stream, webhooks, gateway or pull.")
    ],
    ids: Ids = None,
    category: OfCategory = None,
    force: Annotated[
        bool, typer.Option("--force", help="Deliver what breaks the schema, too.")
    ] = False,
    patience: Wait = 60,
    fail_at: Annotated[
        str | None, typer.Option(help="For tests: die there, as in `lakebed stream`.")
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Judge open records again, by their source's present file, and deliver those that pass, once.

    Example: lakebed dlq replay streams/web.yml --category schema
    """
    from lakebed.ingest import dlq as work
    from lakebed.ingest.faults import Faults
    from lakebed.ingest.patience import Patience
    from lakebed.project import open_target, project_folder

    name, entities, place = _source(config)
    lake = open_target(target, project_dir, profiles_dir)
    os.chdir(project_folder(project_dir))
    selection = work.Selection(tuple(ids or ()), name, category)
    outcome = work.replay(
        lake, name, entities, place, selection, Patience(patience), Faults(fail_at), force
    )
    for name, reason in outcome.refused[:20]:
        typer.echo(f"  {name}: {reason}")
    typer.echo(f"{outcome.delivered:,} delivered, {len(outcome.refused):,} refused again.")


def _source(file: Path) -> tuple[str, list[Entity], Place]:
    """Name, entities and judgement of the source that a YAML file describes."""
    from lakebed.ingest import dlq as work
    from lakebed.ingest.config import mapping, read_stream, render

    content = mapping(render(file), str(file))
    if "resources" in content:
        from lakebed.ingest.pull import placing
        from lakebed.ingest.pull_config import read_pull

        pull = read_pull(file)
        return pull.name, list(pull.topics.values()), placing(pull)
    if "endpoints" in content:
        from lakebed.ingest.webhook import read_webhooks

        hooks = read_webhooks(file)
        name, topics = hooks.name, {k: each.entity for k, each in hooks.endpoints.items()}
    else:
        stream = read_stream(file)
        name, topics = stream.name, stream.topics
    return name, list(topics.values()), work.by_topic(name, topics)


@app.command()
def discard(
    ids: Ids = None,
    stream: OfStream = None,
    category: OfCategory = None,
    everything: Annotated[bool, typer.Option("--all", help="All that are open.")] = False,
    patience: Wait = 60,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Mark open records as not wanted. Their bytes stay in ops.dlq.

    Example: lakebed dlq discard web:clicks:0:17
    """
    from lakebed.ingest import dlq as work
    from lakebed.ingest.patience import Patience
    from lakebed.project import open_target, project_folder

    if not (ids or stream or category or everything):
        raise UserError("Say which: records by name, --stream, --category, or --all.")
    lake = open_target(target, project_dir, profiles_dir)
    os.chdir(project_folder(project_dir))
    selection = work.Selection(tuple(ids or ()), stream, category)
    typer.echo(f"{work.discard(lake, selection, Patience(patience)):,} discarded.")
