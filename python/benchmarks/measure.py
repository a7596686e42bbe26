"""Run variants in turn, several times; compare their medians."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Variant:
    """One way to do it. `seconds` in the order of the runs; `note` says what else was seen."""

    name: str
    seconds: list[float]
    ratio: float
    note: str = ""


@dataclass(frozen=True)
class Result:
    """One benchmark. Ratios are to the first variant's median."""

    name: str
    question: str
    variants: list[Variant] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def interleaved(
    variants: Mapping[str, Callable[[], object]], repeats: int, warm_up: bool = True
) -> dict[str, list[float]]:
    """Seconds of each variant; all of them once in a random order, then again, ..."""
    order = random.Random(1)
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    if warm_up:
        for work in variants.values():
            work()
    for _ in range(repeats):
        for name in order.sample(list(variants), len(variants)):
            start = time.perf_counter()
            variants[name]()
            seconds[name].append(round(time.perf_counter() - start, 4))
    return seconds


def compared(
    name: str,
    question: str,
    seconds: Mapping[str, list[float]],
    notes: Mapping[str, str] | None = None,
) -> Result:
    base = median(next(iter(seconds.values())))
    variants = [
        Variant(variant, times, round(median(times) / base, 2), (notes or {}).get(variant, ""))
        for variant, times in seconds.items()
    ]
    return Result(name, question, variants)


def environment(home: Path) -> dict[str, str]:
    """Variables that put a lake, a landing folder and a target into `home`."""
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPO / "python"),
        "LAKEBED_HOME": str(home / "lake"),
        "LAKEBED_LANDING": str(home / "landing"),
        "DBT_PROFILES_DIR": str(REPO),
        "DBT_TARGET_PATH": str(home / "target"),
        "DBT_LOG_PATH": str(home / "logs"),
    }


def run(home: Path, *command: str, fail: bool = True) -> str:
    """A command of the repository with a lake, a landing folder and a target in `home`."""
    done = subprocess.run(
        command, cwd=REPO, env=environment(home), capture_output=True, text=True, check=False
    )
    if done.returncode and fail:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def compiled(home: Path, sql: str, target: str = "local") -> str:
    """What dbt makes of `sql` (Jinja) in this project."""
    command = ("dbt", "--quiet", "--no-use-colors", "compile", "--inline", sql, "--output", "text")
    return run(home, *command, "--target", target).strip()
