"""A dbt project, and dbt in this process: one start, one parse, one JVM for all steps."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TextIO

from lakebed.errors import UserError

SUBJECTS = "LAKEBED_ERASURE_SUBJECTS"


@dataclass(frozen=True)
class Project:
    """A dbt project, and how to run dbt in it. It is read once, at `manifest`, and before that at
    each command. `connected`: dbt stays connected between commands, unless one fails."""

    folder: Path
    target: str | None = None
    profiles: Path | None = None
    connected: bool = False
    _parsed: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def dbt(
        self,
        *command: str,
        subjects: Sequence[str] = (),
        hear: Callable[[str], None] | None = None,
    ) -> str:
        """What dbt prints; `hear` is called with each line of it at once.

        It writes no log and no artifact: those would hold what it was asked. Raises UserError with
        dbt's own error.
        """
        from dbt.cli.main import dbtRunner

        options = [
            *(("--target", self.target) if self.target else ()),
            *(("--profiles-dir", str(self.profiles)) if self.profiles else ()),
        ]
        printed = _Printed(sys.stdout, hear)
        reading = command[-1] == "parse"
        manifest = None if reading else self._parsed.get("manifest")
        if manifest and "run-operation" not in command:  # runs leave marks in the nodes
            manifest = replace(manifest, nodes=deepcopy(manifest.nodes))
        with _within(self.folder, {SUBJECTS: json.dumps(list(subjects))}), redirect_stdout(printed):
            done = dbtRunner(manifest=manifest).invoke(
                [
                    *("--quiet", "--no-use-colors", "--log-level-file", "none"),
                    *("--no-send-anonymous-usage-stats", *command, *options),
                ]
            )
        if not (self.connected and done.success):
            _release()
        if not done.success:
            raise UserError(_reason(f"{printed.getvalue()}\n{done.exception or ''}"))
        if reading:
            self._parsed["manifest"] = done.result
        return printed.getvalue()

    def operation(
        self,
        name: str,
        arguments: dict[str, Any],
        subjects: Sequence[str] = (),
        hear: Callable[[str], None] | None = None,
    ) -> str:
        """Run a macro of Lakebed."""
        return self.dbt(
            *("--no-write-json", "run-operation", f"lakebed.{name}"),
            *("--args", json.dumps(arguments)),
            subjects=subjects,
            hear=hear,
        )

    def manifest(self) -> dict[str, Any]:
        """The project as dbt reads it."""
        # Parsed whole: after a partial parse the tags of unchanged models were seen to be missing.
        self.dbt("--no-partial-parse", "parse")
        target = self.folder / (os.environ.get("DBT_TARGET_PATH") or "target")
        found: dict[str, Any] = json.loads((target / "manifest.json").read_text("utf-8"))
        return found


def answer(printed: str) -> dict[str, Any]:
    """What a macro printed as `LAKEBED {...}`. Raises UserError when it did not."""
    for line in printed.splitlines():
        if line.startswith("LAKEBED {"):
            found: dict[str, Any] = json.loads(line.removeprefix("LAKEBED "))
            return found
    raise UserError(f"dbt did not say what it did: {printed[-500:]}")


class _Printed(io.StringIO):
    """Standard output that is kept, and heard line by line; who hears prints to the real one."""

    def __init__(self, real: TextIO, hear: Callable[[str], None] | None) -> None:
        super().__init__()
        self._real, self._hear, self._line = real, hear, ""

    def write(self, text: str) -> int:
        if self._hear:
            *lines, self._line = (self._line + text).split("\n")
            with redirect_stdout(self._real):
                for line in lines:
                    self._hear(line)
        return super().write(text)


@contextmanager
def _within(folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """The working folder and the environment that dbt is to see."""
    before, kept = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.chdir(before)
        for name in variables:
            os.environ.pop(name)
            if name in kept:
                os.environ[name] = kept[name]


def _release() -> None:
    """dbt-duckdb keeps the lake attached, and so locked, until its process ends."""
    if module := sys.modules.get("dbt.adapters.duckdb.connections"):
        module.DuckDBConnectionManager.close_all_connections()


def _reason(output: str) -> str:
    """dbt's error in one line, without the place in a file that it adds."""
    lines = [re.sub(r"^\d\d:\d\d:\d\d\s+", "", line.strip()) for line in output.splitlines()]
    lines = [line for line in lines if line and not re.match(r"\d+ of \d+ ERROR", line)]
    for line in lines:
        if "Lakebed: " in line:
            return line.split("Lakebed: ", 1)[1]
    noise = ("Encountered an error", "> in macro", "at ", "...")
    shown = [line for line in lines if not line.startswith(noise)]
    return " ".join(shown)[:800] or "dbt failed and said nothing."
