"""`lakebed erase`: plan, run, verify."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakebed.errors import UserError
from lakebed.options import ProfilesDir, ProjectDir, Target, project_of

if TYPE_CHECKING:
    from lakebed.dbt import Project
    from lakebed.erase.request import Request
    from lakebed.project import Lake

app = typer.Typer(no_args_is_help=True, help="Erase a person's data for good.")

Subject = Annotated[str, typer.Argument(help="What the models' YAML calls it, e.g. household.")]
Keys = Annotated[list[str] | None, typer.Argument(help="Its keys; one or many.")]
KeysFile = Annotated[
    Path | None,
    typer.Option("--keys-file", help="A file with one key a line, `-` is standard input."),
]
Exports = Annotated[
    list[Path] | None,
    typer.Option(
        "--export",
        help="An export or archive that the lake does not know of: copied or moved; repeatable.",
    ),
]


def _keys(keys: list[str] | None, file: Path | None) -> list[str]:
    found = list(keys or [])
    if file:
        text = (
            typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
        )
        found += [line.strip() for line in text.splitlines() if line.strip()]
    return found


@app.command()
def plan(
    subject: Subject,
    keys: Keys = None,
    keys_file: KeysFile = None,
    export: Exports = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Say what would be erased, and change nothing.

    Example: lakebed erase plan household 1234
    """
    from lakebed.erase import request as requests

    project = project_of(target, project_dir, profiles_dir)
    request = requests.prepare(project, subject, _keys(keys, keys_file), export or ())
    _show(request, requests.erase(project, request, dry_run=True)["tables"])


@app.command()
def run(
    subject: Subject,
    keys: Keys = None,
    keys_file: KeysFile = None,
    export: Exports = None,
    nothing_runs: Annotated[
        bool,
        typer.Option(
            help="What has begun and not ended (a build, maintenance) was killed. Say so only "
            "when nothing runs: what it wrote would be lost."
        ),
    ] = False,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Erase a subject from every table, landing file, export, old version and the catalogue.

    Needs LAKEBED_ERASURE_KEY, a secret to keep. Killed, it is run again with the same keys.

    Example: lakebed erase run household 1234
    """
    from lakebed.erase import delta, ducklake, iceberg
    from lakebed.erase import request as requests

    project = project_of(target, project_dir, profiles_dir)
    lake = _lake(project)
    if lake:
        ducklake.check(lake)  # said before anything
    request = requests.prepare(project, subject, _keys(keys, keys_file), export or ())
    folders, streams = ({}, []) if lake else _locations(project, request)
    begun = datetime.now(timezone.utc)
    if not lake or lake.shared:
        requests.begin(project, request, nothing_runs)
    with requests.streams_held(project, streams):
        tables = requests.erase(project, request)["tables"]
        _show(request, tables)
        if lake:
            removed = ducklake.purge(lake, begun)
        else:
            removed = iceberg.forget(requests.erase_history(project, request))
            removed += delta.forget(path for path, kind in folders.items() if kind == "delta")
    requests.complete(project, request, sum(tables.values()))
    typer.echo(f"Old versions are gone ({removed} files). Request {request.request_id}.")


@app.command()
def verify(
    subject: Subject,
    keys: Keys = None,
    keys_file: KeysFile = None,
    export: Exports = None,
    value: Annotated[
        list[str] | None,
        typer.Option(help="A value to look for byte by byte, e.g. an e-mail address; repeatable."),
    ] = None,
    target: Target = None,
    project_dir: ProjectDir = None,
    profiles_dir: ProfilesDir = None,
) -> None:
    """Prove that nothing is left: no row, no line, and no byte of the values given by --value.

    A number such as 1234 is in many files by chance: as a key, it is looked for
    in the columns and fields that hold keys; a key of eight characters or more that is
    no number is looked for in every byte, too.

    Example: lakebed erase verify customer HH-93f2a --value ada@example.org
    """
    from lakebed.erase import ducklake
    from lakebed.erase import request as requests
    from lakebed.erase.scan import scan
    from lakebed.store import is_object_store

    project = project_of(target, project_dir, profiles_dir)
    request = requests.prepare(project, subject, _keys(keys, keys_file), export or ())
    tables = requests.erase(project, request, dry_run=True)["tables"]
    left = [f"{rows} rows in {name}" for name, rows in tables.items()]
    left += [f"{lines} lines in {file.name}" for file, _, lines in request.found]
    values = [*(value or []), *(key for key in request.keys if len(key) >= 8 and not key.isdigit())]
    looked = "no value to look for byte by byte"
    if values:
        lake = _lake(project)
        stored = _locations(project, request)[0]
        places = {*_folders(lake), *filter(None, [request.landing])}
        places |= {export.folder for export in request.exports}
        places |= {Path(table) for table in stored if not is_object_store(table)}
        folders = sorted(
            f for f in places if not any(f != g and f.is_relative_to(g) for g in places)
        )
        files, traces = scan(folders, values, ducklake.objects(lake) if lake else _objects(stored))
        traces += ducklake.traces(lake, values) if lake else []
        left += [f"{trace.path}: {trace.how}" for trace in traces]
        looked = f"{len(values)} values looked for in {files} files"
    if left:
        raise UserError("\n  ".join(["it is not erased:", *left]))
    for line in request.overlooked:
        typer.echo(f"Not looked into: {line}", err=True)
    there = f" and {len(request.exports)} exports" if request.exports else ""
    typer.echo(f"Nothing is left in {len(request.tables)} tables{there}; {looked}.")


def _lake(project: Project) -> Lake | None:
    """The DuckLake of the target; None on Spark."""
    from lakebed.project import open_lake, target_settings

    _, output = target_settings(project.folder, project.profiles, project.target)
    if output.get("type") == "spark":
        return None
    return open_lake(project.target, project.folder, project.profiles)


def _locations(project: Project, request: Request) -> tuple[dict[str, str], list[str]]:
    """On Spark the places of tables with their formats, and the names of streams; none on DuckDB.
    Raises UserError."""
    from lakebed.erase import delta, iceberg
    from lakebed.erase import request as requests

    of = {"delta": delta.folder, "iceberg": iceberg.folder}
    found = requests.locations(project, request)
    folders = {of[each["format"]](each["folder"]): each["format"] for each in found["tables"]}
    return folders, found["streams"]


def _objects(tables: Iterable[str]) -> Iterator[tuple[str, Path]]:
    """On Spark the objects of the lake, and of tables that are elsewhere in a store."""
    from lakebed.spark.settings import spark_home, warehouse
    from lakebed.store import is_object_store, objects

    home = warehouse(spark_home())
    apart = [table for table in tables if not table.startswith(f"{home}/")]
    return chain.from_iterable(objects(p) for p in [home, *apart] if is_object_store(p))


def _folders(lake: Lake | None) -> list[Path]:
    """Where the lake's bytes lie."""
    from lakebed.erase import ducklake
    from lakebed.spark.settings import spark_home

    return ducklake.folders(lake) if lake else [spark_home().resolve()]


def _show(request: Request, tables: dict[str, int]) -> None:
    policies = {
        f"{table.schema}.{table.identifier}": "delete" if table.delete else "anonymise"
        for table in request.tables
    }
    policies |= {
        export.name: "delete" if export.deletes else "anonymise" for export in request.exports
    }
    for line in request.overlooked:
        typer.echo(f"Not looked into: {line}", err=True)
    for name, rows in sorted(tables.items()):
        typer.echo(f"  {rows:>9,}  {policies.get(name, '')} {name}")
    for file, _, lines in request.found:
        typer.echo(f"  {lines:>9,}  lines of {file.name}")
    if not tables and not request.found:
        typer.echo("No row, no landing file and no export is left.")
