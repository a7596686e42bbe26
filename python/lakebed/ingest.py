"""`lakebed ingest files`: batches of new files, by count, size or age, into bronze.

The loading itself is dbt's: the models of the selector `ingest`, as in any `dbt build`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from lakebed.errors import UserError
from lakebed.landing import LandedFile, pending
from lakebed.project import Lake

PATTERNS = ["pat-file-drop-microbatch"]


@dataclass(frozen=True)
class Trigger:
    """When waiting files are worth a batch: whichever comes first. 0 bytes: size never is."""

    files: int
    bytes: int
    age: float  # seconds since the oldest was written

    def fires(self, waiting: list[LandedFile], now: float) -> bool:
        """`now` in seconds since 1970."""
        if not waiting:
            return False
        oldest = min(file.modified_ns for file in waiting) / 1e9
        return (
            len(waiting) >= self.files
            or (self.bytes > 0 and sum(file.bytes for file in waiting) >= self.bytes)
            or now - oldest >= self.age
        )


def known_files(lake: Lake) -> set[tuple[str, int, int]]:
    """The versions of files that the manifest has; none in a new lake. Raises UserError."""
    if not lake.exists:
        return set()
    with lake.connect() as connection:
        there = connection.execute(
            "select count(*) from information_schema.tables"
            " where table_schema = 'bronze' and table_name = 'landing__files'"
        ).fetchone()
        if not there or not there[0]:
            return set()
        return set(
            connection.execute(
                "select file_name, bytes, modified_ns from bronze.landing__files"
            ).fetchall()
        )


def ingest_files(
    lake: Lake,
    project: Path,
    landing: Path,
    trigger: Trigger,
    max_files: int = 0,
    max_bytes: int = 0,
    watch: float = 0,
) -> int:
    """Load batches until nothing new is left; with `watch`, go on looking every so many seconds.

    Returns the number of new files. Raises UserError when the landing folder cannot be read, or dbt
    fails (its own output says why).
    """
    loaded = 0
    while True:
        try:
            waiting = pending(landing, known_files(lake))
        except OSError as error:
            raise UserError(str(error)) from error
        if trigger.fires(waiting, time.time()):
            _load(lake.target, project, landing, max_files, max_bytes)
            left = len(pending(landing, known_files(lake)))
            if left >= len(waiting):
                raise UserError("dbt loaded no file; see its output above.")
            loaded += len(waiting) - left
        elif watch:
            time.sleep(watch)
        elif not waiting:
            return loaded


def _load(target: str, project: Path, landing: Path, max_files: int, max_bytes: int) -> None:
    variables = {
        "landing": str(landing.resolve()),
        "file_batch_files": max_files,
        "file_batch_bytes": max_bytes,
    }
    command = (
        *(sys.executable, "-c", "from dbt.cli.main import cli; cli()", "run"),
        *("--selector", "ingest", "--target", target, "--vars", json.dumps(variables)),
    )
    done = subprocess.run(command, cwd=project, env=os.environ, check=False)
    if done.returncode:
        raise UserError("dbt could not load the files; its output above says why.")
