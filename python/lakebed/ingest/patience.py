"""Waiting for the lake: what is worth another try, how long, and what to do meanwhile."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import duckdb

from lakebed.errors import LOST, LakeLocked, UserError, explain

PATTERNS = ["pat-retryable"]

Result = TypeVar("Result")

#: What kind of failure it was: see `classify`.
TRANSIENT, AMBIGUOUS, PERMANENT = "transient", "ambiguous", "permanent"

#: The answer of the catalogue was lost: a commit may have gone through.
_LOST = (*LOST, "Connection reset by peer")
#: The lake is busy or away, and has done nothing.
_BUSY = (
    "Could not set lock on file",
    "Transaction conflict",
    "Exceeded the maximum retry count",  # others were faster each time
    "Unable to connect to Postgres",
    "could not serialize access",
    "deadlock detected",
    "the database system is",  # starting up, shutting down
    # An object store that is away or overloaded: files are written before the commit, and so there
    # was none.
    " error for HTTP ",
    "returned HTTP 429",
    "returned HTTP 5",
    "(HTTP code 429)",
    "(HTTP code 5",
    # Two processes make a new catalogue at once: the other one's is there at the next try.
    "pg_type_typname_nsp_index",
    'relation "ducklake_metadata" already exists',
)
#: How long a command that is told to stop still waits, in seconds.
LAST_CHANCE = 5.0


def classify(error: BaseException) -> str:
    """TRANSIENT: nothing was done, waiting may help. AMBIGUOUS: it may have been done, so another
    try must look first (the sink compares positions). PERMANENT: the same try fails again."""
    if isinstance(error, LakeLocked | TryLater):
        return TRANSIENT
    if isinstance(error, duckdb.Error):
        for kind, texts in ((AMBIGUOUS, _LOST), (TRANSIENT, _BUSY)):
            if any(text in str(error) for text in texts):
                return kind
    return PERMANENT


class TryLater(Exception):
    """A dependency failed in a way that another try may mend: the message says how it failed.

    `after`: seconds that it asked to be left alone. `failing`: it does not work; else it does, and
    only has no time.
    """

    def __init__(self, line: str, after: float | None = None, failing: bool = True) -> None:
        super().__init__(line)
        self.after, self.failing = after, failing


def held_by_erasure() -> TryLater:
    """Why a stream may not write."""
    return TryLater(
        "`lakebed erase run` holds all streams; it was killed? Run it again", failing=False
    )


@dataclass
class Patience:
    """Tries again with exponential backoff and jitter, `first` to `most` seconds apart.

    `limit` is the budget of one action in seconds, None: for ever. `pause(seconds)` sleeps; a
    consumer stays in its group there. `say` hears once why there is a wait. When `stop` is set
    the rest of the budget is `last_chance`.
    """

    limit: float | None = None
    pause: Callable[[float], object] = time.sleep
    say: Callable[[str], None] = lambda _line: None
    stop: threading.Event = field(default_factory=threading.Event)
    first: float = 0.05
    most: float = 0.5
    last_chance: float = LAST_CHANCE
    #: Tries that failed, and were followed by another.
    failures: int = field(default=0, init=False)

    def persist(self, action: Callable[[], Result]) -> Result:
        """The action's result. Raises UserError for what a person can mend, LakeLocked or
        TryLater when the budget is used up; other errors as they are."""
        started = time.monotonic()
        delay, told, stopped = self.first, False, None
        while True:
            after = None
            try:
                return action()
            except (duckdb.Error, LakeLocked, TryLater) as error:
                line = explain(error) or str(error)
                now = time.monotonic()
                if classify(error) == PERMANENT:
                    if explain(error):
                        raise UserError(line) from error
                    raise
                if self.stop.is_set():
                    stopped = stopped or now
                if isinstance(error, TryLater):
                    after = error.after
                # A wait that was asked for and does not fit into the budget is not begun.
                spent = now - started + (after or 0)
                if (stopped and now - stopped >= self.last_chance) or (
                    self.limit is not None and spent >= self.limit
                ):
                    raise (error if isinstance(error, TryLater) else LakeLocked(line)) from error
                if not told and now - started + (after or 0) > 1:
                    self.say(f"Waiting: {line}")
                    told = True
            self.failures += 1
            self.pause(max(random.uniform(delay / 2, delay), after or 0))
            delay = min(delay * 2, self.most)
