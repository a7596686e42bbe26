"""Dying on purpose, at a named step: what `--fail-at` does, for tests of your own too.

A fault is a SIGKILL of the own process, so nothing is tidied up: no `finally`, no flush, no
goodbye to the broker.
"""

from __future__ import annotations

import os
import random
import signal
from dataclasses import dataclass, field

from lakebed.errors import UserError

#: The steps of one batch, in their order.
POINTS = (
    "received",  # records are read, nothing is in the lake
    "begun",  # the transaction is open, positions are checked
    "rows-written",  # rows of bronze are written, not committed
    "dlq-written",  # refused records too
    "positions-moved",  # all of it, not committed
    "committed",  # in the lake; the source knows nothing yet
    "acknowledged",  # the source knows
)


@dataclass
class Faults:
    """`at` is POINT, POINT:COUNT (the COUNT-th time, first is 1) or random:SEED:CHANCE.

    `random` dies at any point with that chance (0 to 1), the same way for the same seed. None
    never does. `points` are the steps of other work than a batch's. Raises UserError for anything
    else.
    """

    at: str | None = None
    points: tuple[str, ...] = POINTS
    _point: str = field(default="", init=False)
    _left: int = field(default=0, init=False)
    _chance: float = field(default=0.0, init=False)
    _dice: random.Random = field(default_factory=random.Random, init=False)

    def __post_init__(self) -> None:
        if self.at is None:
            return
        name, _, rest = self.at.partition(":")
        try:
            if name == "random":
                seed, _, chance = rest.partition(":")
                self._dice, self._chance = random.Random(int(seed)), float(chance)
            elif name in self.points:
                self._point, self._left = name, int(rest or 1)
            else:
                raise ValueError
        except ValueError:
            raise UserError(
                f"--fail-at {self.at}: give POINT, POINT:COUNT or random:SEED:CHANCE; points are "
                f"{', '.join(self.points)}."
            ) from None

    def reach(self, point: str) -> None:
        """The work is at `point`: die here if that is what was asked for."""
        if self._chance and self._dice.random() < self._chance:
            os.kill(os.getpid(), signal.SIGKILL)
        if point == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
