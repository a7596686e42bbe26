"""`lakebed ingest files`: load what has landed, in batches, through dbt's bronze models."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import yaml

from lakebed.errors import LakeLocked, UserError, explain
from lakebed.ingest.trigger import Thresholds, Version, Waiting, due
from lakebed.landing import LandedFile, pending
from lakebed.project import Lake, open_lake, profiles_folder, project_folder

PATTERNS = ["pat-file-drop-microbatch"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What to load, and in which portions.

    `max_files` and `max_bytes` limit one batch (0: no limit). `watch` is the pause between two
    looks in seconds; None loads what is there and ends. `source` and `entity` name the
    folders to look at, None: all.
    """

    project_dir: Path | None = None
    profiles_dir: Path | None = None
    target: str | None = None
    landing: Path | None = None
    source: str | None = None
    entity: str | None = None
    max_files: int = 0
    max_bytes: int = 0
    watch: float | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)


def ingest(options: Options, say: Say, stop: threading.Event) -> int:
    """Load batches: those there are, or with `watch` until `stop`. Returns their number.

    `stop` ends the work after the batch at hand. Raises UserError when the landing folder or the
    lake cannot be read, or dbt fails.
    """
    project = project_folder(options.project_dir)
    lake = open_lake(options.target, project, options.profiles_dir)
    landing = landing_folder(project, options.landing)
    waiting = Waiting()
    batches = 0
    said = ""
    while True:
        try:
            files = _waiting_files(lake, landing, options)
            now = time.time()
            waiting.see(files, now)
            if reason := due(files, waiting, now, options.thresholds):
                batches += _drain(files, reason, lake, landing, project, options, say, stop)
                said = ""
        except LakeLocked as error:
            # Writers on `local` take turns: a watcher waits for its own.
            if options.watch is None:
                raise
            if str(error) != said:
                say(f"Waiting: {error}")
                said = str(error)
        if options.watch is None:
            if not batches and not stop.is_set():
                say(f"Nothing new in {landing}.")
            return batches
        if stop.wait(options.watch):
            return batches


def landing_folder(project: Path, given: Path | None = None) -> Path:
    """The folder that the bronze models read: as given, or as the project and the environment say.

    Like dbt: the variable `landing`, else LAKEBED_LANDING, else data/landing, counted from
    the project's folder.
    """
    if given:
        return given.resolve()
    settings = yaml.safe_load((project / "dbt_project.yml").read_text(encoding="utf-8"))
    variables = settings.get("vars") or {}
    of_package = variables.get("lakebed") or {}
    folder = variables.get("landing") or of_package.get("landing")
    return project / (folder or os.environ.get("LAKEBED_LANDING") or "data/landing")


def _drain(
    files: list[LandedFile],
    reason: str,
    lake: Lake,
    landing: Path,
    project: Path,
    options: Options,
    say: Say,
    stop: threading.Event,
) -> int:
    """Load `files`, in as many batches as the limits make. What lands meanwhile is not waited for,
    so that a folder that never rests cannot keep the command busy for ever."""
    left = {file.version for file in files}
    batches = 0
    while left and not stop.is_set():
        started = time.monotonic()
        _build(project, landing, options)
        still = left & {file.version for file in _waiting_files(lake, landing, options)}
        if still == left:
            raise UserError(
                f"dbt ran, but {len(left)} files in {landing} are still new to the manifest. Does "
                "the project read this folder? See the variable `landing` and LAKEBED_LANDING."
            )
        left = still
        batches += 1
        say(f"{_last_batch(lake)}; {reason}; {time.monotonic() - started:.1f} s; {len(left)} left")
    return batches


def _waiting_files(lake: Lake, landing: Path, options: Options) -> list[LandedFile]:
    try:
        found = pending(landing, _known(lake))
    except OSError as error:
        raise UserError(explain(error) or str(error)) from error
    return [
        file
        for file in found
        if options.source in (None, file.source) and options.entity in (None, file.entity)
    ]


def _known(lake: Lake) -> set[Version]:
    """The versions of files that the manifest has; none before the first build."""
    if not lake.exists:
        return set()
    with lake.connect() as connection:
        try:
            rows = connection.execute(
                "select file_name, bytes, modified_ns from bronze.landing__files"
            ).fetchall()
        except duckdb.CatalogException:
            return set()
    return {(name, size, modified) for name, size, modified in rows}


def _last_batch(lake: Lake) -> str:
    with lake.connect() as connection:
        rows = connection.execute(
            "select batch_id, status, count(*), sum(bytes), sum(rows) from bronze.landing__files"
            " where batch_id = (select max(batch_id) from bronze.landing__files)"
            " group by batch_id, status order by status != 'ready', status"
        ).fetchall()
    states = ", ".join(f"{files} {state}" for _, state, files, *_ in rows)
    size, lines = sum(row[3] for row in rows), sum(row[4] for row in rows if row[1] == "ready")
    return f"Batch {rows[0][0]}: {states}; {lines:,} rows, {size / 1e6:,.1f} MB"


def _build(project: Path, landing: Path, options: Options) -> None:
    """Run dbt's bronze models for file drops in this process. Raises UserError."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    select = ["tag:file_drop"]
    if options.source or options.entity:
        # Bronze models are named after the folders they read.
        name = f"bronze_{options.source or '*'}__{options.entity or '*'}"
        select = ["bronze_landing__files", f"{name},tag:file_drop"]
    variables = {
        "file_batch_files": options.max_files,
        "file_batch_bytes": options.max_bytes,
        **({"landing": str(landing)} if options.landing else {}),
    }
    command = ["--log-level", "none", "build", "--select", *select]
    command += ["--project-dir", str(project.resolve())]
    command += ["--profiles-dir", str(profiles_folder(project, options.profiles_dir).resolve())]
    command += ["--vars", json.dumps({name: value for name, value in variables.items() if value})]
    if options.target:
        command += ["--target", options.target]
    here = Path.cwd()
    try:
        outcome = dbtRunner().invoke(command)
    finally:
        os.chdir(here)  # dbt goes to the project
        DuckDBConnectionManager.close_all_connections()  # and keeps the catalogue's file locked
    if not outcome.success:
        raise _failure(outcome, project)


def _failure(outcome: Any, project: Path) -> Exception:
    """The first thing that went wrong in a dbt run, as an error for a person."""
    if outcome.exception is not None:
        texts = [str(outcome.exception)]
    else:
        results = [r for r in outcome.result.results if str(r.status) in ("error", "fail")]
        texts = [f"{result.node.name}: {result.message}" for result in results]
    error = Exception("\n".join(texts))
    line = explain(error)
    if line is None:
        first = " ".join((texts or ["unknown"])[0].split())
        line = f"dbt could not load the batch: {first} (more in {project / 'logs' / 'dbt.log'})."
    return LakeLocked(line) if LakeLocked.known(error) else UserError(line)
