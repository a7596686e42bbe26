"""A conversion that is killed, or meets writers at a bad moment, is gone on with."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conversions import Conversion, Ids
from conversions import conversion as conversion
from lakebed.convert import run
from lakebed.dbt import Project
from lakebed.errors import UserError

PROVES = ["pat-format-migration"]


def random_life(c: Conversion, rng: random.Random, steps: int, kills: int) -> None:
    """Writers of both sides and all steps, in any order, some of them killed: at each moment the
    readers have the rows that were written, and in the end both sides have."""
    readers, last, expected = "files", 100, Ids()
    for number in (1, 2):
        expected += c.land(number, rng.choice("ab"))
    c.do("start", str(c.folder), c.view)
    late = False
    for step in range(steps):
        last += 1
        if readers == "files" or rng.random() < 0.2:
            expected += c.land(last, rng.choice("ab"), rows=rng.randrange(1, 5))
            late = readers == "table"
        else:
            expected += c.insert(last, *[last] * rng.randrange(3), part=rng.choice("abc"))
        command = rng.choice(["sync", "sync", "cut-over", "roll-back"])
        if step * kills // steps < (step + 1) * kills // steps:
            killed(c, rng, command)
        if late:
            c.do("sync", c.view)
            late = False
        if command == "cut-over":
            c.do("sync", c.view)
        c.do(command, c.view, check=False)
        (row,) = c.sql(f"select readers from {c.ops}.conversions where view_name = '{c.view}'")
        readers = row[0]
        if command != "sync":
            assert readers == {"cut-over": "table", "roll-back": "files"}[command]
        assert c.ids() == expected
    c.do("sync", c.view)
    assert c.ids() == c.ids(c.table) == expected
    assert "the same" in c.do("validate", c.view)
    assert not [path for path in c.home.iterdir() if path.suffix in (".partial", ".lock")]


def killed(c: Conversion, rng: random.Random, command: str) -> None:
    """Kill a step, most often when it is at work in the lake."""
    process = c.start_process(command, c.view)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(rng.uniform(1, 12 if c.engine else 5))
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Crash(BaseException):
    """No handler of ours takes it for an error."""


@dataclass(frozen=True)
class Interrupted(Project):
    """Ends at an operation, by number; `meanwhile` is called before the operation of a name."""

    end_at: int = -1
    meanwhile: tuple[str, Callable[[], Any]] = ("", lambda: None)
    done: list[str] = field(default_factory=list)

    def operation(self, name: str, *more: Any, **named: Any) -> str:
        if len(self.done) == self.end_at:
            raise Crash
        self.done.append(name)
        if name == self.meanwhile[0]:
            self.meanwhile[1]()
        return super().operation(name, *more, **named)


def test_a_crash_between_any_two_operations(tmp_path: Path) -> None:
    """On DuckDB an operation is a transaction, so that these are all the moments there are."""
    c = Conversion(tmp_path, None)
    expected = c.land(1)
    c.do("start", str(c.folder), c.view)
    expected += c.land(2)
    c.do("cut-over", c.view, check=False)
    steps: dict[str, Callable[[Project], Any]] = {
        "sync": lambda project: run.sync(project, c.view, False, lambda _: None),
        "cut-over": lambda project: run.cut_over(project, c.view, lambda _: None),
        "roll-back": lambda project: run.roll_back(project, c.view, None, lambda _: None),
    }
    late = Ids()
    for name, step in steps.items():
        if name == "roll-back":
            expected += c.insert(90, 91)
            late = c.land(3)
        for end_at in range(20):
            try:
                step(Interrupted(c.project.folder, end_at=end_at))
                break
            except Crash:
                assert c.ids() in (expected, expected + late), (name, end_at)
            except UserError as error:  # all but the last operation was done
                if "nothing to roll back" not in str(error):
                    raise
                break
        assert 2 < end_at < 19
    expected += late
    c.do("sync", c.view)
    assert c.ids() == c.ids(c.table) == expected


def test_writers_in_the_moment_of_the_switch(tmp_path: Path) -> None:
    c = Conversion(tmp_path, None)
    expected = c.land(1)
    c.do("start", str(c.folder), c.view)

    def meanwhile(write: Callable[[], Any]) -> Interrupted:
        return Interrupted(c.project.folder, meanwhile=("convert_switch", write))

    run.cut_over(meanwhile(lambda: c.land(2)), c.view, lambda _: None)
    expected += Counter(2000 + i for i in range(10))
    assert c.ids() == expected
    project = meanwhile(lambda: c.insert(777, part="z"))
    run.roll_back(project, c.view, None, lambda _: None)
    assert c.ids() == expected + Counter([777])
    assert "21 rows, the same" in c.do("validate", c.view)


@pytest.mark.soak_on("delta")
def test_steps_that_are_killed_are_gone_on_with(conversion: Conversion) -> None:
    c = conversion
    c.use("killed")
    random_life(c, random.Random(3), *((2, 1) if c.engine else (5, 4)))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(2))
def test_steps_that_are_killed_are_gone_on_with_soak(conversion: Conversion, seed: int) -> None:
    c = conversion
    c.use(f"killed_{seed}")
    random_life(c, random.Random(seed), 40, 25)
