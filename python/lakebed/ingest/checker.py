"""Checks of one's own, in a process of their own: what they cannot survive, the stream does.

A check that crashes (a parser in C, a recursion, a memory that runs full) or hangs takes its
process with it and nothing else. The records it was given are then halved until the one that kills
is found; that one goes to the DLQ, all others where they belong.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import runpy
import signal
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from lakebed.errors import UserError

PATTERNS = ["pat-poison-pill-handling"]

#: Seconds until the process must be there: it loads what the check imports.
_START = 60.0

#: None: the value is good. Else a category of the DLQ, and the reason.
Verdict = tuple[str, str] | None


@dataclass(frozen=True)
class Check:
    """`function` of the Python file `file` gets a record's value (bytes) and raises for a bad one.

    `seconds` for one batch; `memory` in bytes, for the process. Raises UserError, at the first use,
    when there is no such function.
    """

    file: Path
    function: str
    seconds: float = 30.0
    memory: int = 2 * 1024**3
    _worker: _Worker = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_worker", _Worker(self))

    def judge(self, values: Sequence[bytes]) -> list[Verdict]:
        """A verdict for each value, in their order."""
        if not values:
            return []
        found = self._worker.ask(values)
        if isinstance(found, list):
            return found
        if len(values) == 1:
            return [("processing", f"{self.function} {found}")]
        middle = len(values) // 2
        return self.judge(values[:middle]) + self.judge(values[middle:])


class _Worker:
    """The process; it is started when it is needed, and after each death."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def ask(self, values: Sequence[bytes]) -> list[Verdict] | str:
        """Verdicts; or how the process died over these values."""
        pipe = self._pipe or self._start()
        try:
            pipe.send(list(values))
            if not pipe.poll(self._check.seconds):
                self._end()
                return f"was not done after {self._check.seconds:g} s"
            verdicts: list[Verdict] = pipe.recv()
            return verdicts
        except (EOFError, OSError):
            code = self._end()
            return (
                f"killed its process (signal {-code}, {signal.Signals(-code).name})"
                if code < 0
                else f"ended its process (exit {code})"
            )

    def _start(self) -> Connection:
        # A fresh interpreter: a fork would have the engine's locks and the broker's threads.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        check = self._check
        self._process = context.Process(
            target=_serve,
            args=(theirs, str(check.file), check.function, check.memory),
            daemon=True,
        )
        self._process.start()
        theirs.close()
        self._pipe = ours
        try:
            problem = ours.recv() if ours.poll(_START) else f"no answer for {_START:g} s"
        except (EOFError, OSError):
            problem = "its process ended while it was loaded"
        if problem is not None:
            self._end()
            raise UserError(f"The check {check.function} of {check.file}: {problem}.")
        return ours

    def _end(self) -> int:
        """Make sure it is gone; its exit code."""
        process, pipe = self._process, self._pipe
        self._process = self._pipe = None
        if pipe is not None:
            pipe.close()
        if process is None:
            return 0
        # The pipe's end is seen a moment before the process's own.
        process.join(1)
        process.kill()
        process.join()
        return process.exitcode or 0


def _serve(pipe: Connection, file: str, name: str, memory: int) -> None:
    """In the process: judge what comes, until the other end is gone."""
    # Ctrl-C is for the stream, which may still have records to judge.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        function = runpy.run_path(file)[name]
    except KeyError:
        pipe.send("there is no such function")
        return
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")
        return
    pipe.send(None)
    while True:
        try:
            values = pipe.recv()
        except EOFError:
            return
        pipe.send([_verdict(function, value) for value in values])


def _end_with_parent() -> None:
    """A stream that was killed leaves no check behind that hangs."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(0)


def _verdict(function: Callable[[bytes], Any], value: bytes) -> Verdict:
    try:
        function(value)
    except ValueError as error:
        return "schema", (str(error) or "refused by its check")[:500]
    except Exception as error:
        return "processing", f"{type(error).__name__}: {error}"[:500]
    return None
