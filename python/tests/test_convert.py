"""Parquet files become a table while readers read: no gap, no half, no row lost on the way back."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pytest
from harness import ROOT, DbtProject
from hypothesis import given
from hypothesis import strategies as st
from lakebed.convert import run
from lakebed.convert.folders import (
    NO_VALUE,
    File,
    check_schemas,
    checked_folder,
    moves,
    partition_path,
    partitions,
)
from lakebed.dbt import Project
from lakebed.errors import UserError
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session
from lakehouse import TeamLakehouse
from test_maintain import lakebed

PROVES = ["pat-format-migration"]

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


@pytest.fixture(scope="module")
def conversion(lake: Cluster | None, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    return Conversion(tmp_path_factory.mktemp("convert"), lake)


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


@pytest.mark.soak_on("iceberg")  # whose own way is in the test of kills
@pytest.mark.soak_on("delta")  # whose own way is in test_from_ducklake_to_spark
def test_a_whole_life(conversion: Conversion) -> None:
    """From the files to the table, back, forth for good: every row that anybody wrote is there,
    and a reader sees just that, at each moment."""
    c = conversion
    c.use("sales")
    expected = c.land(1) + c.land(2, "b ä")
    said = c.do("start", str(c.folder), c.view, "--to", c.format)
    assert "2 files" in said
    assert c.ids() == expected
    with ExitStack() as stack:
        totals = {total(expected)}
        readers = None
        if c.engine:  # a lake in a file has one process at a time: see the test of a shared one
            session = stack.enter_context(connect_session(c.engine.connect_url))
            query = f"select count(*), sum(id) from {c.view}"
            readers = Readers(lambda: tuple(session.sql(query).collect()[0]), pause=0.2)
            stack.enter_context(readers)
        expected = live(c, expected, totals)
    if readers:
        assert readers.errors == []
        assert len(readers.seen) > 20
        assert set(readers.seen) <= totals
        assert readers.seen[-1] == total(expected)


def total(ids: Ids) -> tuple[int, int]:
    return sum(ids.values()), sum(key * times for key, times in ids.items())


def live(c: Conversion, expected: Ids, totals: set[tuple[int, int]]) -> Ids:
    """`totals` are what a reader may see; a write is seen before it is said to be done."""

    def come(ids: Ids, write: Callable[[], Ids]) -> None:
        nonlocal expected
        expected = expected + ids
        totals.add(total(expected))
        assert write() == ids

    def file(number: int, part: str = "a") -> None:
        come(Counter(number * 1000 + i for i in range(10)), lambda: c.land(number, part))

    def rows(*ids: int, part: str = "a") -> None:
        come(Counter(ids), lambda: c.insert(*ids, part=part))

    # The writer goes on: readers see its file at once, the table after a sync.
    file(3)
    assert c.ids() == expected
    if not c.engine:  # a command takes Spark five seconds
        assert "Not copied yet: 1 files" in c.do("status")
        assert "not copied yet: part=a/3.parquet" in c.refused("cut-over", c.view)
    c.do("sync", c.view)
    if not c.engine:
        assert f"{sum(expected.values())} rows, the same" in c.do("validate", c.view)
    c.do("cut-over", c.view)
    assert c.ids() == expected

    # The writer writes to the table; one that did not hear of it has a file more.
    rows(91, 92, 92)
    rows(93, part="new/part")
    c.land(4, "b ä")
    expected += Counter(4000 + i for i in range(10))
    totals.add(total(expected))
    said = c.do("sync", c.view)
    assert "1 files" in said
    assert "4 rows" in said
    assert (c.folder / "part=new%2Fpart").is_dir()
    assert c.ids() == c.ids(c.table) == expected
    if not c.engine:
        assert "see the table already" in c.refused("cut-over", c.view)
        assert "the files have all rows" in c.do("sync", c.view)

    rows(94)
    c.do("roll-back", c.view)
    assert c.ids() == expected
    if not c.engine:
        file(5)
        c.do("sync", c.view)
    c.do("cut-over", c.view)
    assert c.ids() == expected

    # Files cannot follow a row that goes, or changes: then new ones are written.
    expected = expected - Counter([94]) + Counter([95])
    totals.add(total(expected))
    c.sql(f"update {c.table} set id = 95 where id = 94")
    assert "1 rows of" in c.refused("roll-back", c.view)
    assert c.ids() == expected
    if not c.engine:
        again = c.home / "sales again"
        c.do("roll-back", c.view, "--to", str(again))
        assert c.ids() == expected
        assert "nothing to roll back" in c.refused("roll-back", c.view)
        c.do("cut-over", c.view)
        shutil.rmtree(again)
        assert "are kept until" in c.refused("finish", c.view, "--delete-files")
    tags = f"select * from {c.table}.refs where type = 'TAG'"
    tags = tags if c.format == "iceberg" else f"select * from {c.ops}.tags"
    assert len(c.sql(tags)) == 1
    c.do("finish", c.view)
    assert c.sql(tags) == []
    assert c.ids() == expected
    assert c.sql(f"select count(distinct part) from {c.view}") == [(3,)]
    return expected


@pytest.mark.team
def test_readers_of_a_shared_lake_see_no_gap(team: TeamLakehouse) -> None:
    """DuckLake with its catalogue in PostgreSQL, where processes read and write at once."""
    folder, view = team.home / "sales", "gold.sales"

    def land(number: int) -> None:
        folder.mkdir(exist_ok=True)
        duckdb.sql(f"copy (select {number} as id from range(100)) to '{folder}/.{number}.parquet'")
        (folder / f".{number}.parquet").rename(folder / f"{number}.parquet")

    land(1)
    team.run("lakebed", "convert", "start", str(folder), view)
    with team.connect() as connection:
        query = f"select count(*), count(distinct id) from {view}"
        with Readers(lambda: connection.execute(query).fetchone()) as readers:
            for number in (2, 3):
                land(number)
                team.run("lakebed", "convert", "sync", view)
                team.run("lakebed", "convert", "cut-over", view)
                team.run("lakebed", "convert", "roll-back", view)
    assert readers.errors == []
    assert len(readers.seen) > 20
    assert set(readers.seen) <= {(100, 1), (200, 2), (300, 3)}
    assert readers.seen[-1] == (300, 3)


@pytest.mark.soak_on("iceberg")
@pytest.mark.soak_on("delta")
def test_what_is_not_the_same_is_found(conversion: Conversion) -> None:
    """A copy that lost a row or has another value, files that changed: nobody is shown that."""
    c = conversion
    c.use("damaged")
    expected = c.land(1) + c.land(2, "b")
    c.do("start", str(c.folder), c.view)
    c.sql(f"update {c.table} set note = 'wrong' where id = 2003")
    found = lakebed(c.project, "convert", "validate", c.view, check=False)
    assert found.returncode == 1
    lines = found.stdout.splitlines()
    assert "1 rows only in the files, partition b" in lines
    assert "1 rows only in the table, partition b" in lines
    assert [line for line in lines if "2003" in line and "wrong" in line]
    assert "go on seeing the files" in c.refused("cut-over", c.view)
    assert c.ids() == expected
    c.do("sync", c.view, "--recopy")

    if c.format == "ducklake":  # what says so is Python's
        c.sql(f"delete from {c.table} where id = 1003")
        assert "are not the same" in c.refused("cut-over", c.view)
        c.do("sync", c.view, "--recopy")
        c.sql(f"alter table {c.table} add column extra integer")
        found = lakebed(c.project, "convert", "validate", c.view, check=False)
        assert "columns only in the table: extra INTEGER" in found.stdout
        c.sql(f"alter table {c.table} drop column extra")
        file = c.folder / "part=a" / "1.parquet"
        file.unlink()
        assert "part=a/1.parquet. Their rows" in c.refused("sync", c.view)
        expected = c.land(1, rows=3) + c.land(2, "b")
        assert "and 1 more" in c.refused("sync", c.view)
        assert "vanished since the copy: part=a" in c.refused("cut-over", c.view)
        c.do("sync", c.view, "--recopy")
        more = expected + c.land(3)
        assert "3.parquet" in c.refused("validate", c.view)
        c.do("sync", c.view)
        c.do("cut-over", c.view)
        assert c.ids() == more
        file.unlink()
        assert "cannot follow" in c.refused("roll-back", c.view)
        assert "is not copied anew" in c.refused("sync", c.view, "--recopy")
        c.do("roll-back", c.view, "--to", str(c.home / "anew"))
        assert c.ids() == more
    assert "see the files" in c.refused("finish", c.view)
    c.do("finish", c.view, "--drop-table")
    with pytest.raises(Exception, match=c.table.split(".")[1]):
        c.ids(c.table)
    assert sum(c.ids().values())


def test_files_go_when_they_are_due(tmp_path: Path) -> None:
    c = Conversion(tmp_path, None)
    expected = c.land(1, None)
    c.do("start", str(c.folder), c.view)
    c.do("cut-over", c.view)
    c.land(2, None)
    due = ("finish", c.view, "--delete-files", "--after-days", "0")
    assert "2.parquet" in c.refused(*due)
    assert len(list(c.folder.iterdir())) == 2
    (c.folder / "2.parquet").unlink()
    (c.folder / "notes.txt").write_text("not ours")
    assert "1 files" in c.do(*due)
    assert [path.name for path in c.folder.iterdir()] == ["notes.txt"]
    assert c.ids() == expected


@pytest.mark.soak_on("iceberg")
def test_refusals(conversion: Conversion) -> None:
    """One line, and nothing is touched."""
    c = conversion
    c.use("refused")
    there = f"{c.project.schema}.there"
    using = f"using {c.format}" if c.engine else ""
    c.sql(f"create table {there} {using} as select 1 as id")
    c.sql(f"create view {c.project.schema}.seen as select 1 as id")
    c.land(1)
    folder = str(c.folder)
    assert "there is a table" in c.refused("start", folder, there)
    assert "--replace-view" in c.refused("start", folder, f"{c.project.schema}.seen")
    assert "is not being converted" in c.refused("sync", c.view)
    if c.format != "ducklake":  # the rest is Python's
        c.use("maps")
        c.folder.mkdir()
        duckdb.sql(f"copy (select 1 as id, [map {{'a': 1}}] as m) to '{c.folder}/1.parquet'")
        assert "column m is a array<map<string,int>>" in c.refused("start", str(c.folder), c.view)
        return
    assert "write schema.name" in c.refused("start", folder, "sales")
    assert "no format 'orc'" in c.refused("start", folder, c.view, "--to", "orc")
    assert "a lake has one format" in c.refused("start", folder, c.view, "--to", "delta")
    assert "publish main.there FOLDER" in c.refused("start", "main.there", c.view)
    assert "There is no folder" in c.refused("start", f"{folder}/gone", c.view)
    (c.home / "empty").mkdir()
    assert "no Parquet files" in c.refused("start", str(c.home / "empty"), c.view)
    (c.folder / "part=a" / "2.parquet").write_text("no Parquet")
    assert "2.parquet cannot be read" in c.refused("start", folder, c.view)
    with pytest.raises(Exception, match="refused"):
        c.ids()
    (c.folder / "part=a" / "2.parquet").unlink()
    c.do("start", folder, f"{c.project.schema}.seen", "--replace-view")
    assert sum(c.ids(f"{c.project.schema}.seen").values()) == 10
    c.do("start", folder, f"{c.project.schema}.seen")  # goes on
    c.use("other")
    c.land(1)
    elsewhere = c.refused("start", str(c.folder), f"{c.project.schema}.seen")
    assert "already, from" in elsewhere
    # What comes later is looked at before it is copied, too.
    c.do("start", str(c.folder), c.view)
    duckdb.sql(f"copy (select 'x' as id) to '{c.folder}/part=a/9.parquet'")
    assert "not of one schema: id is BYTE_ARRAY" in c.refused("sync", c.view)
    (c.folder / "part=a" / "9.parquet").rename(c.folder / "9.parquet")
    assert "9.parquet is not partitioned by part" in c.refused("sync", c.view)


def test_folders_that_are_no_plain_table(tmp_path: Path) -> None:
    def refused(*files: str, sql: str = "select 1 as id") -> str:
        folder = tmp_path / str(random.randrange(10**9))
        for file in files:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            duckdb.sql(f"copy ({sql}) to '{folder / file}' (format parquet)")
        found = [File(file, 1, 1) for file in files]
        try:
            checked_folder(folder)
            partitions(found)
            check_schemas(folder, found)
        except UserError as error:
            return str(error)
        return "nothing"

    assert "is a Delta table" in refused("a.parquet", "_delta_log/x.checkpoint.parquet")
    assert "is an Iceberg table" in refused("data/a.parquet", "metadata/v1.metadata.json")
    assert "not named column=value" in refused("2024/a.parquet")
    assert "partitioned by b, and" in refused("a=1/x.parquet", "b=1/x.parquet")
    assert "by nothing, and" in refused("a=1/x.parquet", "x.parquet")
    assert "such characters" in refused("a[1].parquet")
    assert "Column id is in the files and" in refused("id=1/a.parquet")
    assert "no Parquet files" in refused("_temporary/a.parquet", ".a.parquet")


def between(old: Conversion, new: Conversion) -> None:
    """A table goes from one lake to another of another format, and can go back with every row."""
    old.folder = new.folder = new.home / "between"
    old.view = old.table = f"{old.project.schema}.between"
    new.view, new.table = (f"{new.project.schema}.between{end}" for end in ("", f"__{new.format}"))
    using = "using delta tblproperties (delta.enableChangeDataFeed = true)" if old.engine else ""
    old.sql(
        f"create table {old.table} {using} as select cast(1 as bigint) as id,"
        " cast(2.5 as decimal(12, 2)) as price, 'ä' as note, cast(0.1 as double) as share,"
        " true as is_even, 'x' as part, timestamp '2024-02-29 23:59:59.123456' as sold_at"
    )
    old.do("publish", old.table, str(old.folder))
    assert "is there already" in old.refused("publish", new.table, str(old.folder))
    new.do("start", str(new.folder), new.view)
    expected = Counter([1]) + old.insert(2, 3)
    old.do("sync", old.table)
    new.do("sync", new.view)
    assert new.ids() == expected
    new.do("cut-over", new.view)
    # Writers of both sides, for a while.
    expected += new.insert(4, 4) + old.insert(5)
    for c in (new, old, new):
        c.do("sync", c.view)
    assert new.ids() == new.ids(new.table) == old.ids() == expected
    assert "6 rows, the same" in old.do("validate", old.view)
    assert "never was anything else" in old.refused("roll-back", old.view)
    for c in (old, new):
        c.do("finish", c.view)


@pytest.mark.spark
def test_from_ducklake_to_spark(cluster: Cluster, tmp_path: Path) -> None:
    between(Conversion(tmp_path / "old", None), Conversion(tmp_path / "new", cluster))


@pytest.mark.soak
@pytest.mark.spark
def test_from_delta_to_iceberg(cluster: Cluster, iceberg_cluster: Cluster, tmp_path: Path) -> None:
    between(Conversion(tmp_path / "old", cluster), Conversion(tmp_path / "new", iceberg_cluster))


names = st.sampled_from(["a", "b", "c", "d"])
states = st.dictionaries(names, st.tuples(st.integers(0, 2), st.integers(0, 2)))


@given(states, states)
def test_what_became_of_files(before: dict[str, Any], after: dict[str, Any]) -> None:
    known = {name: File(name, *state) for name, state in before.items()}
    found = moves(known, [File(name, *state) for name, state in after.items()])
    assert [each.file for each in found.new] == sorted(set(after) - set(before))
    assert found.gone == sorted(set(before) - set(after))
    both = set(before) & set(after)
    assert found.changed == sorted(name for name in both if before[name] != after[name])


@given(st.lists(st.one_of(st.none(), st.text(min_size=1)), min_size=1, max_size=3))
def test_partitions_have_folders_of_their_own(values: list[str | None]) -> None:
    path = partition_path(["a", "b", "c"][: len(values)], values)
    assert len(path.parts) == len(values)
    read = [unquote(part.split("=", 1)[1]) for part in path.parts]
    assert read == [NO_VALUE if value is None else value for value in values]


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
