"""Continuous mode: the models that read a stream are built while it runs, `--build`.

dbt runs in a process of its own that stays: started and parsed once, and ended with the sidecar.
Where one process at a time can have the lake open (`local`), reading goes on when the build is
done; else beside it.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lakebed.dbt import Project
from lakebed.errors import UserError
from lakebed.ingest.metrics import Meter
from lakebed.ingest.stop import end_with_parent
from lakebed.lineage.tell import wanted
from lakebed.project import SparkLake

if TYPE_CHECKING:
    from lakebed.ingest.sinks import BatchSink

PATTERNS = ["pat-batch-microbatch-continuum"]

#: Seconds until a build that failed is tried again, if no record comes sooner.
AGAIN = 30.0
_DIED = "dbt's process has died; what was read is in the lake."


#: Options of the commands that have a continuous mode.
Command = Annotated[
    str | None,
    typer.Option(
        "--build",
        metavar="run|build",
        help="Continuous: `dbt run` (models) or `dbt build` (and tests) what reads the new rows.",
    ),
]
Select = Annotated[
    str | None,
    typer.Option(help="With --build: dbt's selection; by default all that reads these tables."),
]
Every = Annotated[
    float, typer.Option("--build-every", min=0, help="Seconds between two starts of a build.")
]
Rows = Annotated[
    int,
    typer.Option(
        "--build-rows", min=1, help="New rows that start one, or ten times --build-every."
    ),
]


class _Died(Exception):
    """dbt's process has ended without a word."""


@dataclass(frozen=True)
class Plan:
    """What is built, and when. `command` is dbt's, run or build; `select` its selection, None: all
    that depends on tables with new rows. `every`: at least so many seconds between two starts;
    `rows`: and so many new rows, unless they have waited ten times as long."""

    command: str = "run"
    select: str | None = None
    every: float = 5.0
    rows: int = 1


@dataclass
class Builder:
    """Builds when `turn` is called often. Use it as a context; it looks at the sink's `meter`.

    `tables` are the stream's, in bronze. `alone`: nobody writes while it builds.
    """

    plan: Plan
    project: Path
    profiles: Path | None
    target: str
    tables: Sequence[str]
    alone: bool
    meter: Meter
    say: Callable[[str], None]
    _busy: bool = field(default=False, init=False)
    #: Rows of each table that the last good build saw, and that the running one sees.
    _built: Counter[str] | None = field(default=None, init=False)
    _seen: Counter[str] = field(default_factory=Counter, init=False)
    _oldest: float | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _failed: str | None = field(default=None, init=False)

    def __enter__(self) -> Builder:
        self._start()
        return self

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(
                theirs,
                self.plan,
                Project(self.project, self.target, self.profiles, connected=not self.alone),
                list(self.tables),
            ),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        try:
            self._answer()  # UserError now, not after the first batch
        except _Died:
            raise UserError(_DIED) from None

    def __exit__(self, *_error: object) -> None:
        self._pipe.close()  # it ends when it reads that
        self._process.join(0 if self._busy else 10)
        self._process.kill()

    def turn(
        self, pause: Callable[[float], object], more: bool = False, last: bool = False
    ) -> None:
        """Begin a build that is due, and take note of one that has ended; `pause` is what to do
        meanwhile. `more`: there is more to read at once, so it had better wait a little. `last`:
        build what is not built yet, and raise UserError if that fails."""
        self._collect()
        if not self._busy and (self._due(more) or (last and self._new() != 0)):
            self._begin()
        while self._busy and (self.alone or last):
            pause(0.05)
            self._collect()
            if last and not self._busy and self._new() and not self._failed:
                self._begin()  # what came while the build before was running
        if last and self._failed:
            raise UserError(f"The last build failed: {self._failed}")

    def _new(self) -> int:
        """Rows that no good build has seen; -1: nothing was built yet."""
        return -1 if self._built is None else (self.meter.rows - self._built).total()

    def _due(self, more: bool) -> bool:
        new, waited = self._new(), time.monotonic() - self._started
        if more and waited < 3 * self.plan.every:
            return False
        if self._failed and waited < min(AGAIN, 10 * self.plan.every):
            return False
        if new < 0:
            return True
        return (new >= self.plan.rows and waited >= self.plan.every) or (
            new > 0 and waited >= 10 * self.plan.every
        )

    def _begin(self) -> None:
        self._seen, self._oldest = self.meter.rows.copy(), self.meter.take_oldest()
        self._started = time.monotonic()
        self._busy = True
        with suppress(OSError):  # `_collect` finds that it has died
            # None: what came before this process may not be built, whichever table it is in.
            self._pipe.send(None if self._built is None else list(self._seen - self._built))

    def _collect(self) -> None:
        if not (self._busy and self._pipe.poll(0)):
            return
        try:
            error = self._answer()
        except _Died:
            error = _DIED
            self._restart()
        seconds = time.monotonic() - self._started
        self._busy = False
        self._failed = error
        self.meter.built(error is None, seconds, self._oldest)
        if error is None:
            self._built = self._seen
        else:
            self.meter.put_oldest(self._oldest)
            self.say(f"The build failed: {error}")

    def _restart(self) -> None:
        """Another process in the place of one that has died: of a machine without memory, or of
        DuckDB, which now and then aborts when the catalogue's connection is lost."""
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._start()

    def _answer(self) -> str | None:
        """None, or why the build failed. Raises UserError when there can be no builds; _Died."""
        try:
            kind, content = self._pipe.recv()
        except (EOFError, OSError):
            raise _Died from None
        if kind == "impossible":
            raise UserError(content)
        return content  # type: ignore[no-any-return]


def _serve(pipe: Connection, plan: Plan, dbt: Project, tables: Sequence[str]) -> None:
    """In the process: dbt, once for each message, until it is ended. A message: the tables with new
    rows, or None for all, and with all else that their readers read, which may not be there yet."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sidecar ends it when it is done
    end_with_parent()
    try:
        manifest = dbt.manifest()
        chosen = _chosen(dbt, plan.select) if plan.select else []
        sources = {} if chosen else _sources(manifest, tables)
    except UserError as impossible:
        pipe.send(("impossible", str(impossible)))
        return
    pipe.send(("ready", None))
    # Together half of a small build's time: dbt's artifacts, which are for lineage, and the default
    # checks, which are for `build` as tests are.
    options = [] if wanted() else ["--no-write-json"]
    command = [plan.command]
    if plan.command == "run":
        command += ["--vars", json.dumps({"lakebed_default_checks": "off"})]
    while True:
        try:
            new = pipe.recv()
        except EOFError:
            return
        if new is None:
            affected = [f"@{source}" for found in sources.values() for source in found]
        else:
            affected = [f"{source}+" for table in new for source in sources.get(table, ())]
        selection = chosen or affected
        error: str | None = None
        try:
            if selection:
                dbt.dbt(*options, *command, "--select", *selection)
        except UserError as failed:
            error = str(failed)
        except Exception as failed:
            error = f"{type(failed).__name__}: {failed}"[:500]
        pipe.send(("built", error))


def _chosen(dbt: Project, select: str) -> list[str]:
    """A selection that a person gave. Raises UserError when it is of nothing."""
    if not dbt.dbt("ls", "--resource-type", "model", "--select", *select.split()).strip():
        raise UserError(f"--select {select} selects no model.")
    return select.split()


def _sources(manifest: dict[str, Any], tables: Sequence[str]) -> dict[str, list[str]]:
    """dbt's sources that are tables of bronze, by table. Raises UserError for none at all."""
    found: dict[str, list[str]] = {table: [] for table in tables}
    for source in manifest["sources"].values():
        if source["schema"] == "bronze" and source["identifier"] in found:
            found[source["identifier"]].append(f"source:{source['source_name']}.{source['name']}")
    if not any(found.values()):
        raise UserError(
            f"No source of dbt is bronze.{tables[0]}: declare it (docs/streaming.md), or say what "
            "to build with --select."
        )
    return found


@contextmanager
def building(
    command: str | None,
    select: str | None,
    every: float,
    rows: int,
    sink: BatchSink,
    folders: tuple[Path, Path | None],
    say: Callable[[str], None],
) -> Iterator[Builder | None]:
    """What the options ask for: a builder for a sink's stream, or None. `folders` are those of the
    project and of profiles.yml. Raises UserError."""
    if command is None:
        yield None
        return
    if command not in ("run", "build"):
        raise UserError(f"--build is 'run' (models) or 'build' (and their tests), not '{command}'.")
    if isinstance(sink.lake, SparkLake) and not sink.lake.shared:
        raise UserError(
            f"The target {sink.lake.target} is one process's: its models cannot be built beside "
            "it. `lakebed spark up`, and use the target `spark`."
        )
    plan = Plan(command, select, every, rows)
    tables = [entity.table for entity in sink.entities]
    lake = sink.lake
    with Builder(plan, *folders, lake.target, tables, not lake.shared, sink.meter, say) as builder:
        yield builder
