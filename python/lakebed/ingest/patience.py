"""Waiting for the lake: what is worth another try, how long, and what to do meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import duckdb

from lakebed.errors import LakeLocked, UserError, explain

PATTERNS = ["pat-retryable"]

Result = TypeVar("Result")

#: The lake is busy or away; the same transaction may go through later.
TRANSIENT = (
    "Could not set lock on file",
    "Transaction conflict",
    "Unable to connect to Postgres",
    "server closed the connection",
    "terminating connection",
    "could not serialize access",
    "deadlock detected",
    "the database system is",  # starting up, shutting down
    # Two processes make a new catalogue at once: the other one's is there at the next try.
    "pg_type_typname_nsp_index",
    'relation "ducklake_metadata" already exists',
)
#: How long a command that is told to stop still waits, in seconds.
LAST_CHANCE = 5.0


def transient(error: BaseException) -> bool:
    """Whether waiting may help."""
    return isinstance(error, LakeLocked) or (
        isinstance(error, duckdb.Error) and any(text in str(error) for text in TRANSIENT)
    )


@dataclass
class Patience:
    """Tries again with exponential backoff and jitter, 0.05 to 0.5 seconds apart.

    `limit` is the budget of one action in seconds, None: for ever. `pause(seconds)` sleeps; a
    consumer stays in its group there. `say` hears once why there is a wait. When `stop` is set
    the rest of the budget is LAST_CHANCE.
    """

    limit: float | None = None
    pause: Callable[[float], None] = time.sleep
    say: Callable[[str], None] = lambda _line: None
    stop: threading.Event = field(default_factory=threading.Event)

    def persist(self, action: Callable[[], Result]) -> Result:
        """The action's result. Raises UserError for what a person can mend, LakeLocked when the
        budget is used up; other errors as they are."""
        started = time.monotonic()
        delay, told, stopped = 0.05, False, None
        while True:
            try:
                return action()
            except (duckdb.Error, LakeLocked) as error:
                line = explain(error) or str(error)
                now = time.monotonic()
                if not transient(error):
                    if explain(error):
                        raise UserError(line) from error
                    raise
                if self.stop.is_set():
                    stopped = stopped or now
                if (stopped and now - stopped >= LAST_CHANCE) or (
                    self.limit is not None and now - started >= self.limit
                ):
                    raise LakeLocked(line) from error
                if not told and now - started > 1:
                    self.say(f"Waiting: {line}")
                    told = True
            self.pause(random.uniform(delay / 2, delay))
            delay = min(delay * 2, 0.5)
