"""When to load a batch: enough files, enough bytes, or a file that has waited long enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lakebed.landing import LandedFile

PATTERNS = ["pat-file-drop-microbatch"]

Version = tuple[str, int, int]


@dataclass(frozen=True)
class Thresholds:
    """Any one that holds starts a batch; 0 means not asked for, all 0: the first file starts one.

    `files` counts files, `bytes` sums their sizes, `age` is in seconds: how long the
    oldest file has waited.
    """

    files: int = 0
    bytes: int = 0
    age: float = 0

    @property
    def given(self) -> bool:
        return bool(self.files or self.bytes or self.age)


@dataclass
class Waiting:
    """Since when each file has waited, seconds since 1970.

    That is when it was written, or when it was first seen if that is earlier: a file dated
    in the future (its writer's clock is ahead) is not left waiting for that day to come.
    """

    since: dict[Version, float] = field(default_factory=dict)

    def see(self, files: Sequence[LandedFile], now: float) -> None:
        """Take note of the files that wait at `now`; those no longer there are forgotten."""
        self.since = {
            file.version: min(self.since.get(file.version, now), file.modified_ns / 1e9, now)
            for file in files
        }

    def oldest(self, now: float) -> float:
        """Age in seconds of the file that has waited longest; 0 when none waits."""
        return now - min(self.since.values(), default=now)


def due(
    files: Sequence[LandedFile], waiting: Waiting, now: float, thresholds: Thresholds
) -> str | None:
    """Why a batch of `files` should be loaded now, in words; None when it should wait.

    `waiting` has seen the files (`Waiting.see`); `now` is in seconds since 1970.
    """
    if not files:
        return None
    if not thresholds.given:
        return "new files"
    if thresholds.files and len(files) >= thresholds.files:
        return f"{thresholds.files} files or more"
    if thresholds.bytes and sum(file.bytes for file in files) >= thresholds.bytes:
        return f"{thresholds.bytes} bytes or more"
    if thresholds.age and waiting.oldest(now) >= thresholds.age:
        return f"waiting for {thresholds.age:g} s or more"
    return None
