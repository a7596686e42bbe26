"""One request: plan, rows, landing files, history, receipt. Each step may be killed and rerun."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lakebed.dbt import Project, answer
from lakebed.erase import exports, policy
from lakebed.erase import files as landed
from lakebed.erase.exports import Export
from lakebed.erase.hashing import Hasher, key_id, normal, secret
from lakebed.errors import UserError


@dataclass(frozen=True)
class Request:
    """What is to be erased, and what is known about it before anything is touched."""

    subject: str
    keys: list[str]
    request_id: str
    key_id: str
    hashes: list[str]
    tables: list[policy.TablePlan]
    landing: Path | None
    found: list[tuple[Any, Any, int]]  # landing files with lines of the subject
    rules: dict[tuple[str, str], policy.LineRule]
    is_erased: dict[tuple[str, str], Callable[[str], bool]]
    key_type: str
    declared: list[str]  # sources of dbt, `schema.table`
    tests: list[dict[str, Any]]
    exports: list[Export]
    overlooked: list[str]  # exports that were not looked into, and why


def prepare(
    project: Project, subject: str, keys: Sequence[str], more: Sequence[Path] = ()
) -> Request:
    """Check everything that can be checked; `more` are folders of exports that the lake does not
    know of. Raises UserError; touches nothing."""
    key = secret()
    manifest = project.manifest()
    tables = policy.plan(manifest, subject)
    kinds = {kind for table in tables for kind in _kinds(table)}
    if len(kinds) > 1:
        raise UserError(
            f"'{subject}' is {' here and '.join(sorted(kinds))} there: give its key one data_type."
        )
    kind = kinds.pop() if kinds else "string"
    wanted = sorted({normal(text, kind) for text in keys} - {""})
    if not wanted:
        raise UserError("No key was given: whom shall be erased?")
    for table in tables:
        for column in table.keys:
            if str(table.values.get(column["name"])) in wanted:
                raise UserError(
                    f"{table.values[column['name']]} is what {table.name} writes in place of a "
                    f"{subject} that was erased; it is nobody's key."
                )
    hasher = Hasher(key, subject, kind)
    hashes = [hasher.of(text) for text in wanted]
    rules = {table.landed: table.line for table in tables if table.landed and table.line}
    erased = set(hashes)
    tests: dict[tuple[str, str], Callable[[str], bool]] = {
        place: lambda text: hasher.of(text) in erased for place in rules
    }
    landing = _landing(project, manifest)
    found = list(landed.affected(landing, rules, tests, wanted)) if landing and rules else []
    engine = manifest["metadata"]["adapter_type"]
    copies, overlooked = exports.find(project, engine, tables, policy.stored(manifest), more)
    mark = hmac.new(key, "\n".join([subject, *hashes]).encode(), hashlib.sha256).hexdigest()
    return Request(
        subject,
        wanted,
        mark[:16],
        key_id(key),
        hashes,
        tables,
        landing,
        found,
        rules,
        tests,
        kind,
        policy.declared(manifest),
        policy.tests(manifest),
        copies,
        overlooked,
    )


def erase(project: Project, request: Request, dry_run: bool = False) -> dict[str, Any]:
    """Rows, landing files and exports; with `dry_run` only count. Returns {tables: {name: rows},
    known}; exports are among the tables."""
    staged = []
    if not dry_run:
        if request.landing:
            landed.discard(request.landing)
        for file, facts, lines in request.found:
            place = (file.source, file.entity)
            staged.append(
                landed.stage(file, facts, lines, request.rules[place], request.is_erased[place])
            )
    plan = {
        "request_id": request.request_id,
        "key_id": request.key_id,
        "subject": request.subject,
        "hashes": request.hashes,
        "tables": [asdict(table) for table in request.tables],
        "files": [file.version() for file in staged],
        "file_count": len(request.found),
        "key_type": request.key_type,
        "declared": request.declared,
        "tests": request.tests,
        "exports": [export.described() for export in request.exports],
    }
    printed = project.operation("erase_rows", {"plan": plan, "dry_run": dry_run}, request.keys)
    for file in staged:
        file.replace()
    found = answer(printed)
    for export in [] if dry_run else request.exports:
        if export.name in found["tables"] or export.asks_for(request.keys):
            exports.rewrite(project, export, request.keys, request.key_type, request.request_id)
    return found


def begin(project: Project, request: Request, nothing_runs: bool) -> None:
    """Nothing else is written until `complete`; `nothing_runs`: what has not ended was killed.

    Raises UserError while other work goes on, and for what `erase` would refuse: then nothing is
    touched.
    """
    erase(project, request, dry_run=True)
    project.operation("begin_erasure", {"run": request.request_id, "nothing_runs": nothing_runs})


def locations(project: Project, request: Request) -> dict[str, Any]:
    """On Spark: `tables`, with `folder` and `format` of each, and names of `streams`.

    Raises UserError for what cannot be erased.
    """
    return answer(project.operation("erase_folders", {"tables": _names(request)}))


@contextmanager
def streams_held(project: Project, streams: Sequence[str]) -> Iterator[None]:
    """No stream takes anything in meanwhile: files that it writes could not be told from those of a
    writer that died, and on Spark, where they are `streams`, each keeps its last batch in the
    lake. On `local` the lake is this process's."""
    from lakebed.ingest import sink
    from lakebed.project import SparkLake, open_target

    lake = open_target(project.target, project.folder, project.profiles)
    if isinstance(lake, SparkLake):
        from lakebed.spark import sink as spark

        hold, release = partial(spark.hold, lake, streams), partial(spark.release, lake, streams)
        held = bool(streams)
    else:
        hold, release, held = partial(sink.hold, lake), partial(sink.release, lake), lake.shared
    if held:
        hold()
    try:
        yield
    finally:  # killed before that, the same command is run again
        if held:
            release()


def erase_history(project: Project, request: Request) -> dict[str, list[str]]:
    """What SQL can do, on Spark. Returns the files of each Iceberg table, by its folder."""
    printed = project.operation("erase_history", {"tables": _names(request)})
    kept: dict[str, list[str]] = answer(printed)["kept"]
    return kept


def _names(request: Request) -> list[dict[str, str]]:
    names = ("database", "schema", "identifier")
    return [{name: getattr(table, name) for name in names} for table in request.tables]


def complete(project: Project, request: Request, rows: int) -> None:
    """The receipt that closes the request."""
    project.operation(
        "erase_complete",
        {
            "request_id": request.request_id,
            "subject": request.subject,
            "key_id": request.key_id,
            "row_count": rows,
            "file_count": len(request.found),
        },
    )


def _kinds(table: policy.TablePlan) -> set[str]:
    declared = [column["data_type"] for column in table.keys if column["data_type"]]
    declared += [table.line.data_type] if table.line else []
    return {_kind(data_type) for data_type in declared}


def _kind(data_type: str) -> str:
    if policy.is_whole(data_type):
        return "bigint"
    return "string" if data_type in ("varchar", "text") else data_type


def _landing(project: Project, manifest: dict[str, Any]) -> Path | None:
    for node in manifest["nodes"].values():
        if node["name"] == "bronze_landing__files":
            where = policy.meta(node).get("landing")
            return (project.folder / where).resolve() if where else None
    return None
