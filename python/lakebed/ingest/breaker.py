"""Circuit breakers: a dependency that keeps failing is left alone, by all processes, for a while.

The state is a row of the lake for each dependency, so that ten sidecars do not each find out by
themselves. Once its rest is over one of them, and only one, sends a probe: when that succeeds the
circuit closes for all, else it stays open for another rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import duckdb

from lakebed.errors import UserError
from lakebed.ingest.patience import TryLater
from lakebed.ingest.sink import Sink, columns_of, create_table, utc_now
from lakebed.ingest.sinks import BatchSink
from lakebed.project import Lake

PATTERNS = ["pat-circuit-breaker"]

BREAKERS = "ops.breakers"
CLOSED, OPEN, HALF_OPEN = "closed", "open", "half-open"
_COLUMNS = {
    "dependency": "varchar",
    "state": "varchar",
    "failures": "integer",
    "reason": "varchar",
    "changed_at": "timestamp",
    "retry_at": "timestamp",
}
#: Seconds for which a closed circuit is not looked at again.
_LOOK = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True)
class Fuse:
    """So many `failures` in a row, of all processes, open the circuit for `rest` seconds."""

    failures: int = 5
    rest: float = 30.0


@dataclass(frozen=True)
class Circuit:
    """One dependency's row."""

    dependency: str
    state: str
    failures: int
    reason: str | None
    changed_at: datetime
    retry_at: datetime | None


@dataclass
class Breaker:
    """The circuit to `dependency`; its state is in `sink`'s lake."""

    sink: Sink
    dependency: str
    fuse: Fuse = field(default_factory=Fuse)
    say: Callable[[str], None] = lambda _line: None
    _looked: float = field(default=float("-inf"), init=False)
    _troubled: bool = field(default=False, init=False)

    def call(self, action: Callable[[], Result]) -> Result:
        """The action's result. A TryLater of it that is the dependency's fault is counted.

        Raises TryLater, without a call, while the circuit is open.
        """
        self._enter()
        try:
            result = action()
        except TryLater as error:
            # A dependency that only asks for patience works.
            if error.failing:
                self._failed(str(error))
            else:
                self._succeeded()
            raise
        except UserError:
            self._succeeded()  # it answers, though not what was wished for
            raise
        self._succeeded()
        return result

    def _enter(self) -> None:
        if not self._troubled and time.monotonic() - self._looked < _LOOK:
            return
        if not self.sink.lake.exists:
            return  # a first start that fails leaves nothing behind
        left, reason = self.sink.patience.persist(self._claim)
        if left > 0:
            raise TryLater(
                f"{self.dependency} is left alone for {left:.0f} s: it has failed too often "
                f"({reason})",
                left,
                failing=False,
            )

    def _claim(self) -> tuple[float, str | None]:
        """Seconds to wait; 0: go on. Of those who come after the rest the first is the probe."""
        with self.sink.attached(prepared=False) as connection, self.sink.transaction(connection):
            circuit = _read(connection, self.dependency)
            self._looked = time.monotonic()
            self._troubled = circuit is not None and circuit.failures > 0
            if circuit is None or circuit.state == CLOSED or circuit.retry_at is None:
                return 0, None
            now = utc_now()
            left = (circuit.retry_at - now).total_seconds()
            if left <= 0:
                # A probe that dies is replaced after another rest. Of two that claim it at once
                # the later conflicts, and finds it taken.
                self._write(connection, HALF_OPEN, circuit.failures, circuit.reason, now)
                left = 0
            return left, circuit.reason

    def _failed(self, reason: str) -> None:
        def note() -> str:
            with self.sink.attached(prepared=False) as connection:
                connection.execute("create schema if not exists ops")
                create_table(connection, BREAKERS, _COLUMNS)
                with self.sink.transaction(connection):
                    now, circuit = utc_now(), _read(connection, self.dependency)
                    failures = 1 + (circuit.failures if circuit else 0)
                    before = circuit.state if circuit else CLOSED
                    if before == OPEN:
                        return OPEN  # one that was under way when it opened
                    opens = before == HALF_OPEN or failures >= self.fuse.failures
                    state = OPEN if opens else CLOSED
                    self._write(connection, state, failures, reason, now)
                    return state

        if not self.sink.lake.exists:
            return
        self._troubled = True
        if self.sink.patience.persist(note) == OPEN:
            self.say(f"{reason}: no further try for {self.fuse.rest:g} s, by no process.")

    def _succeeded(self) -> None:
        if not self._troubled:
            return

        def note() -> None:
            with (
                self.sink.attached(prepared=False) as connection,
                self.sink.transaction(connection),
            ):
                if _read(connection, self.dependency) is not None:
                    self._write(connection, CLOSED, 0, None, utc_now())

        self.sink.patience.persist(note)
        self._troubled = False

    def _write(
        self,
        connection: duckdb.DuckDBPyConnection,
        state: str,
        failures: int,
        reason: str | None,
        now: datetime,
    ) -> None:
        retry_at = None if state == CLOSED else now + timedelta(seconds=self.fuse.rest)
        values = [state, failures, reason, now, retry_at, self.dependency]
        if _read(connection, self.dependency) is None:
            connection.execute(
                f"insert into {BREAKERS} (state, failures, reason, changed_at, retry_at,"
                " dependency) values (?, ?, ?, ?, ?, ?)",
                values,
            )
        else:
            connection.execute(
                f"update {BREAKERS} set state = ?, failures = ?, reason = ?, changed_at = ?,"
                " retry_at = ? where dependency = ?",
                values,
            )


def calling(
    sink: BatchSink, dependency: str, fuse: Fuse, say: Callable[[str], None]
) -> Callable[[Callable[[], Result]], Result]:
    """How to call a dependency: by its circuit. A lake on Spark has none, and each call is made."""
    if isinstance(sink, Sink):
        return Breaker(sink, dependency, fuse, say).call
    return lambda action: action()


def _read(connection: duckdb.DuckDBPyConnection, dependency: str) -> Circuit | None:
    found = _all(connection, "where dependency = ?", [dependency])
    return found[0] if found else None


def _all(
    connection: duckdb.DuckDBPyConnection, condition: str = "", values: list[str] | None = None
) -> list[Circuit]:
    if not columns_of(connection, BREAKERS):
        return []
    rows = connection.execute(
        f"select {', '.join(_COLUMNS)} from {BREAKERS} {condition} order by dependency",
        values or [],
    ).fetchall()
    return [Circuit(*row) for row in rows]


def circuits(lake: Lake) -> list[Circuit]:
    """All circuits of a lake. Raises UserError when it cannot be read."""
    with lake.connect() as connection:
        return _all(connection)


def close(sink: Sink, dependency: str) -> None:
    """Close a circuit by hand. Raises UserError when there is none of that name."""

    def note() -> None:
        with sink.attached(prepared=False) as connection, sink.transaction(connection):
            if _read(connection, dependency) is None:
                raise UserError(f"No circuit {dependency}: `lakebed breakers` names them.")
            breaker = Breaker(sink, dependency)
            breaker._write(connection, CLOSED, 0, None, utc_now())

    sink.patience.persist(note)
