"""Parquet files become a table while readers read: no gap, no half, no row lost on the way back."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import duckdb
import pytest
from conversions import Conversion, Ids, Readers
from conversions import conversion as conversion
from harness import lakebed
from hypothesis import given
from hypothesis import strategies as st
from lakebed.convert.folders import (
    NO_VALUE,
    File,
    check_schemas,
    checked_folder,
    moves,
    partition_path,
    partitions,
)
from lakebed.errors import UserError
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session
from lakehouse import TeamLakehouse

PROVES = ["pat-format-migration"]


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
