"""Continuous mode: the models that read a stream are built while it runs, `--build`.

dbt runs in a process of its own that stays: started and parsed once, and ended with the sidecar.
Where one process at a time can have the lake open (`local`), reading goes on when the build is
done; else beside it.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


@dataclass(frozen=True)
class Plan:
    """What is built, and when. `command` is dbt's, run or build; `select` its selection, None: all
    that depends on the stream's tables. `every`: at least so many seconds between two starts;
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
    _built: int | None = field(default=None, init=False)  # rows that the last good build saw
    _seen: int = field(default=0, init=False)
    _oldest: float | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _failed: str | None = field(default=None, init=False)

    def __enter__(self) -> Builder:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve,
            args=(theirs, self.plan, self.project, self.profiles, self.target, list(self.tables)),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._answer()  # UserError now, not after the first batch
        return self

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
        return -1 if self._built is None else self.meter.rows.total() - self._built

    def _due(self, more: bool) -> bool:
        new, waited = self._new(), time.monotonic() - self._started
        if more and waited < 3 * self.plan.every:
            return False
        if self._failed and waited < min(AGAIN, 10 * self.plan.every):
            return False
        if new < 0:
            return True  # what came before this process may not be built
        return (new >= self.plan.rows and waited >= self.plan.every) or (
            new > 0 and waited >= 10 * self.plan.every
        )

    def _begin(self) -> None:
        self._seen, self._oldest = self.meter.rows.total(), self.meter.take_oldest()
        self._started = time.monotonic()
        self._busy = True
        try:
            self._pipe.send("build")
        except OSError:
            raise UserError(_DIED) from None

    def _collect(self) -> None:
        if not (self._busy and self._pipe.poll(0)):
            return
        error = self._answer()
        seconds = time.monotonic() - self._started
        self._busy = False
        self._failed = error
        self.meter.built(error is None, seconds, self._oldest)
        if error is None:
            self._built = self._seen
        else:
            self.meter.put_oldest(self._oldest)
            self.say(f"The build failed: {error}")

    def _answer(self) -> str | None:
        """None, or why the build failed. Raises UserError when there can be no builds."""
        try:
            kind, content = self._pipe.recv()
        except (EOFError, OSError):
            raise UserError(_DIED) from None
        if kind == "impossible":
            raise UserError(content)
        return content  # type: ignore[no-any-return]


def _serve(
    pipe: Connection,
    plan: Plan,
    project: Path,
    profiles: Path | None,
    target: str,
    tables: Sequence[str],
) -> None:
    """In the process: dbt, once for each message, until it is ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sidecar ends it when it is done
    end_with_parent()
    dbt = Project(project, target, profiles)
    try:
        readers = _chosen(dbt, plan.select) if plan.select else _readers(dbt.manifest(), tables)
    except UserError as impossible:
        pipe.send(("impossible", str(impossible)))
        return
    pipe.send(("ready", None))
    # A third of a small build's time goes into dbt's artifacts, which are for lineage.
    artifacts = () if wanted() else ("--no-write-json",)
    # At first with all else that they read, which may not be there yet.
    selection = readers if plan.select else [f"@{reader.removesuffix('+')}" for reader in readers]
    while True:
        try:
            pipe.recv()
        except EOFError:
            return
        error: str | None = None
        try:
            dbt.dbt(*artifacts, plan.command, "--select", *selection)
            selection = readers
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


def _readers(manifest: dict[str, Any], tables: Sequence[str]) -> list[str]:
    """A selection of all that depends on tables of bronze. Raises UserError when nothing does."""
    found = [
        f"source:{source['source_name']}.{source['name']}+"
        for source in manifest["sources"].values()
        if source["schema"] == "bronze" and source["identifier"] in tables
    ]
    if not found:
        raise UserError(
            f"No source of dbt is bronze.{tables[0]}: declare it (docs/streaming.md), or say what "
            "to build with --select."
        )
    return sorted(found)


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
