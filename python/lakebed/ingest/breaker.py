"""Circuit breakers: a dependency that keeps failing is left alone, by all processes, for a while.

The state is a row of the lake for each dependency, so that ten sidecars do not each find out by
themselves. Once its rest is over one of them, and only one, sends a probe: when that succeeds the
circuit closes for all, else it stays open for another rest.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

from lakebed.errors import UserError
from lakebed.ingest.patience import TryLater
from lakebed.ingest.sinks import BatchSink, Reader, reading
from lakebed.ingest.tables import utc_now
from lakebed.project import Lake, SparkLake

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
    "change_id": "varchar",  # each change has its own
}
#: Seconds for which a closed circuit is not looked at again; on an engine that takes its time to
#: answer, looking has this share of the time at most.
_LOOK, _SHARE = 1.0, 0.02

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
    change_id: str


@dataclass
class Breaker:
    """The circuit to `dependency`; its state is in `sink`'s lake."""

    sink: BatchSink
    dependency: str
    fuse: Fuse = field(default_factory=Fuse)
    say: Callable[[str], None] = lambda _line: None
    _look_at: float = field(default=float("-inf"), init=False)
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
        if not self._troubled and time.monotonic() < self._look_at:
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
        with self.sink.attached(prepared=False):
            while True:
                began = time.monotonic()
                circuit = _read(self.sink, self.dependency)
                took = time.monotonic() - began
                self._look_at = began + max(_LOOK, took / _SHARE)
                self._troubled = circuit is not None and circuit.failures > 0
                if circuit is None or circuit.state == CLOSED or circuit.retry_at is None:
                    return 0, None
                now = utc_now()
                left = (circuit.retry_at - now).total_seconds()
                if left > 0:
                    return left, circuit.reason
                # A probe that dies is replaced after another rest. Of two that claim it at once
                # the later finds it taken.
                if self._put(circuit, HALF_OPEN, circuit.failures, circuit.reason, now):
                    return 0, circuit.reason

    def _failed(self, reason: str) -> None:
        def note() -> str:
            with self.sink.attached(prepared=False):
                self.sink.create(BREAKERS, _COLUMNS)
                while True:
                    now, circuit = utc_now(), _read(self.sink, self.dependency)
                    failures = 1 + (circuit.failures if circuit else 0)
                    before = circuit.state if circuit else CLOSED
                    if before == OPEN:
                        return OPEN  # one that was under way when it opened
                    opens = before == HALF_OPEN or failures >= self.fuse.failures
                    state = OPEN if opens else CLOSED
                    if self._put(circuit, state, failures, reason, now):
                        return state

        if not self.sink.lake.exists:
            return
        self._troubled = True
        if self.sink.patience.persist(note) == OPEN:
            self.say(f"{reason}: no further try for {self.fuse.rest:g} s, by no process.")

    def _succeeded(self) -> None:
        if self._troubled:
            self.sink.patience.persist(self.close)
            self._troubled = False

    def close(self) -> bool:
        """Close the circuit; whether there is one. See Patience for what it raises."""
        with self.sink.attached(prepared=False):
            while circuit := _read(self.sink, self.dependency):
                if self._put(circuit, CLOSED, 0, None, utc_now()):
                    return True
        return False

    def _put(
        self, before: Circuit | None, state: str, failures: int, reason: str | None, now: datetime
    ) -> bool:
        """Write the circuit's row, if it is as it was; whether it is."""
        retry_at = None if state == CLOSED else now + timedelta(seconds=self.fuse.rest)
        change_id = uuid.uuid4().hex
        values = [state, failures, reason, now, retry_at, change_id, self.dependency]
        if before is not None:
            self.sink.execute(
                f"update {BREAKERS} set state = ?, failures = ?, reason = ?, changed_at = ?,"
                " retry_at = ?, change_id = ? where dependency = ? and change_id = ?",
                [*values, before.change_id],
            )
        else:
            self.sink.execute(
                f"""
                merge into {BREAKERS} as held
                using (
                    select
                        cast(? as string) as state,
                        cast(? as integer) as failures,
                        cast(? as string) as reason,
                        cast(? as timestamp) as changed_at,
                        cast(? as timestamp) as retry_at,
                        cast(? as string) as change_id,
                        cast(? as string) as dependency
                ) as new
                on held.dependency = new.dependency
                when matched then update set state = held.state  -- else Iceberg lets two in
                when not matched then insert
                    (state, failures, reason, changed_at, retry_at, change_id, dependency)
                    values (
                        new.state, new.failures, new.reason, new.changed_at, new.retry_at,
                        new.change_id, new.dependency
                    )
                """,
                values,
            )
        # Of what was changed not each engine says how much it was.
        now_there = _read(self.sink, self.dependency)
        return now_there is not None and now_there.change_id == change_id


def calling(
    sink: BatchSink, dependency: str, fuse: Fuse, say: Callable[[str], None]
) -> Callable[[Callable[[], Result]], Result]:
    """How to call a dependency: by its circuit."""
    return Breaker(sink, dependency, fuse, say).call


def _read(reader: Reader, dependency: str) -> Circuit | None:
    found = _all(reader, "where dependency = ?", [dependency])
    return found[0] if found else None


def _all(reader: Reader, condition: str = "", values: Sequence[str] = ()) -> list[Circuit]:
    if not reader.columns(BREAKERS):
        return []
    rows = reader.query(
        f"select {', '.join(_COLUMNS)} from {BREAKERS} {condition} order by dependency", values
    )
    return [Circuit(*row) for row in rows]


def circuits(lake: Lake | SparkLake) -> list[Circuit]:
    """All circuits of a lake. Raises UserError when it cannot be read."""
    with reading(lake) as reader:
        return _all(reader)


def close(sink: BatchSink, dependency: str) -> None:
    """Close a circuit by hand. Raises UserError when there is none of that name."""
    if not sink.patience.persist(Breaker(sink, dependency).close):
        raise UserError(f"No circuit {dependency}: `lakebed breakers` names them.")
