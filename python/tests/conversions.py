"""Conversions of the tests: a folder of files, its project and lake, and readers."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
from harness import ROOT, DbtProject, lakebed
from lakebed.spark.cluster import Cluster

#: A value of each kind, NULLs among them; `part` is the partition.
ROWS = """
select
    cast({n} * 1000 + i as bigint) as id,
    cast(case when i % 3 > 0 then i * 1.25 end as decimal(12, 2)) as price,
    case when i % 2 = 0 then 'ä, "''' || i end as note,
    cast(i as double) / 7 as share,
    i % 2 = 0 as is_even,
    timestamp '2024-02-29 23:59:59.123456' as sold_at
from range({rows}) as r(i)
"""
Ids = Counter[int]


class Conversion:
    """A folder of files, and a project with a lake."""

    def __init__(self, home: Path, engine: Cluster | None) -> None:
        self.engine = engine
        self.format = engine.table_format if engine else "ducklake"
        self.ops = f"ops_convert_{random.randrange(10**9)}"
        variables = {"lakebed_ops_schema": self.ops}
        self.project = DbtProject(home / "project", {}, variables, None, engine)
        self.home = home
        self.use("sales")

    def use(self, name: str) -> None:
        """Another view, of another folder."""
        self.folder = self.home / name
        self.view = f"{self.project.schema}.{name}"
        self.table = f"{self.view}__{self.format}"

    def land(self, number: int, part: str | None = "a", rows: int = 10) -> Ids:
        """A writer's file: there whole, or not at all."""
        place = self.folder / f"part={part}" if part else self.folder
        place.mkdir(parents=True, exist_ok=True)
        hidden = place / f".{number}.parquet"
        duckdb.sql(f"copy ({ROWS.format(n=number, rows=rows)}) to '{hidden}'")
        hidden.rename(place / f"{number}.parquet")
        return Counter(number * 1000 + i for i in range(rows))

    def do(self, *command: str, check: bool = True) -> str:
        done = lakebed(self.project, "convert", *command, check=check)
        return done.stdout + done.stderr

    def refused(self, *command: str) -> str:
        done = lakebed(self.project, "convert", *command, check=False)
        assert done.returncode == 1, done.stdout
        assert re.fullmatch("Error: .*\n", done.stderr), done.stderr
        return done.stderr

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return self.project.query(statement)

    def ids(self, source: str | None = None) -> Ids:
        return Counter(row[0] for row in self.sql(f"select id from {source or self.view}"))

    def insert(self, *ids: int, part: str = "a") -> Ids:
        """A writer of the table."""
        rows = ", ".join(f"({i}, 1.5, 'new', 0.5, true, null, '{part}')" for i in ids)
        columns = "id, price, note, share, is_even, sold_at, part"
        self.sql(f"insert into {self.table} ({columns}) values {rows}")
        return Counter(ids)

    def start_process(self, *command: str) -> subprocess.Popen[bytes]:
        cluster = self.engine.environment if self.engine else {}
        return subprocess.Popen(
            [*(sys.executable, "-c", "from lakebed.cli import main; main()"), "convert", *command],
            cwd=self.project.folder,
            env={**os.environ, **cluster, "PYTHONPATH": str(ROOT / "python")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )


class Readers:
    """Reads a view all the time; what it saw, or the error that it met."""

    def __init__(self, ask: Callable[[], Any], pause: float = 0) -> None:
        self.seen: list[Any] = []
        self.errors: list[BaseException] = []
        self._ask, self._pause, self._ended = ask, pause, threading.Event()
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        while not self._ended.wait(self._pause):
            try:
                self.seen.append(self._ask())
            except BaseException as error:
                self.errors.append(error)
                return

    def __enter__(self) -> Readers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture(scope="module")
def conversion(lake: Cluster | None, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    return Conversion(tmp_path_factory.mktemp("convert"), lake)
