"""The storage verbs: the rows stay what they are, and any promised version can be read."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from harness import DbtProject
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session

PROVES = [
    "pat-compaction",
    "pat-time-travel",
    "pat-zorder-clustering",
    "pat-delta-lake-maintenance",
    "pat-iceberg-maintenance",
]

Row = tuple[int, int, str | None]
State = dict[int, Row]

ACCOUNTS = """
select
    cast(i as bigint) as id,
    cast(i * 10 as bigint) as amount,
    cast(null as {{ dbt.type_string() }}) as note
from range(0, 20) as r(i)
"""
FILES = {
    "models/accounts.sql": ACCOUNTS,
    "models/kept.sql": "select 1 as id",
    "models/seen.sql": "select 1 as id",
    "models/schema.yml": """
models:
  - name: accounts
    config: {materialized: table, unique_key: id}
  - name: kept
    config: {materialized: table, meta: {time_travel_days: 30}}
  - name: seen
    config: {materialized: view}
""",
    "analyses/then.sql": "select * from {{ lakebed.table_as_of(ref('accounts'), version=111111) }}",
    "analyses/moment.sql": (
        "select * from {{ lakebed.table_as_of(ref('accounts'), at='2222-02-22 22:22:22') }}"
    ),
}

VERBS = ("delete", "update", "merge")
#: Delta keeps a change feed where it is asked to.
FEED = "delta.enableChangeDataFeed: 'true'"


class Storage:
    """A built project, the SQL of its verbs, and a session on its lake."""

    def __init__(self, folder: Path, engine: Cluster | None) -> None:
        files = dict(FILES)
        self.format = engine.table_format if engine else "ducklake"
        if self.format == "delta":
            files["models/schema.yml"] = files["models/schema.yml"].replace(
                "unique_key: id", f"unique_key: id, tblproperties: {{{FEED}}}"
            )
        ops = f"ops_storage_{random.randrange(10**9)}"
        self.project = DbtProject(folder, files, {"lakebed_ops_schema": ops}, None, engine)
        self.engine = engine
        self.project.run("build")
        self.project.run("compile", "--select", "resource_type:analysis")
        self.stack = ExitStack()
        self.session: Any = None
        self.table = f"{self.project.schema}.accounts"

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        if self.session is None:
            if self.engine:
                self.session = self.stack.enter_context(connect_session(self.engine.connect_url))
            else:
                self.session = self.stack.enter_context(self.project.connect())
        if self.engine:
            return [tuple(row) for row in self.session.sql(statement).collect()]
        return list(self.session.execute(statement).fetchall())

    def release(self) -> None:
        self.stack.close()
        self.stack, self.session = ExitStack(), None

    def verb(self, verb: str, /, **arguments: Any) -> str:
        """A verb by `dbt run-operation`; `as_of` is the run's clock."""
        self.release()
        clock = {"as_of": arguments.pop("as_of")} if "as_of" in arguments else {}
        options = ("--args", json.dumps(arguments), "--vars", json.dumps(clock))
        return self.project.run("run-operation", verb, *options).log

    def refused(self, verb: str, /, **arguments: Any) -> str:
        with pytest.raises(AssertionError) as error:
            self.verb(verb, **arguments)
        lines = re.findall(r"Lakebed: .*", str(error.value))
        assert lines, error.value
        return str(lines[0])

    def version(self, table: str | None = None) -> int:
        if self.format == "iceberg":
            refs = f"select snapshot_id from {table or self.table}.refs where name = 'main'"
            return int(self.sql(refs)[0][0])
        if self.engine:
            return int(self.sql(f"describe history {table or self.table} limit 1")[0][0])
        return int(self.sql("select id from ducklake_current_snapshot('lakebed')")[0][0])

    def state(self, source: str | None = None) -> State:
        found = self.sql(source or f"select * from {self.table}")
        assert len({row[0] for row in found}) == len(found), "a row is there twice"
        return {row[0]: row for row in found}  # type: ignore[misc]

    def then(self, version: int) -> State:
        sql = self.project.compiled("analyses/then.sql")
        return self.state(sql.replace("111111", str(version)))

    def changes(self, ranges: list[tuple[int, int]]) -> list[list[tuple[Any, ...]]]:
        """What changed in each range, by one analysis for each: kind, version, order and row."""
        self.release()
        names = []
        for first, last in ranges:
            names.append(f"changes_{first}_{last}")
            self.project.write(
                f"analyses/{names[-1]}.sql",
                f"{{{{ lakebed.changes_between(ref('accounts'), {first}, {last}) }}}}",
            )
        self.project.run("compile", "--select", *names)
        return [self.sql(self.project.compiled(f"analyses/{name}.sql")) for name in names]

    def moment(self) -> str:
        """Now, by the clock that versions are dated by: after what was done, before what comes."""
        time.sleep(0.1)
        now = datetime.now(timezone.utc)
        time.sleep(0.1)
        return now.strftime("%Y-%m-%d %H:%M:%S.%f")

    def at(self, moment: str) -> State:
        sql = self.project.compiled("analyses/moment.sql")
        return self.state(sql.replace("2222-02-22 22:22:22", moment))

    def merge_on_read(self, on: bool) -> None:
        """Iceberg: whether changed rows become delete files, or files that are written anew."""
        mode = "merge-on-read" if on else "copy-on-write"
        settings = ", ".join(f"'write.{verb}.mode' = '{mode}'" for verb in VERBS)
        self.sql(f"alter table {self.table} set tblproperties ({settings})")

    def files(self) -> int:
        if self.format == "iceberg":
            return int(self.sql(f"select count(*) from {self.table}.data_files")[0][0])
        if self.engine:
            self.sql("select 1")
            return int(self.session.sql(f"describe detail {self.table}").collect()[0].numFiles)
        sql = "select count(*) from ducklake_list_files('lakebed', 'accounts')"
        return int(self.sql(sql)[0][0])


@pytest.fixture(scope="module")
def storage(lake: Cluster | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """One for all tests of a format: each begins with what is there, whatever was done to it."""
    made = Storage(tmp_path_factory.mktemp("storage") / "project", lake)
    yield made
    made.release()


def random_change(rng: random.Random, storage: Storage, state: State, next_id: int) -> State:
    """One random statement, done to the table and to a copy of its rows."""
    table, now = storage.table, dict(state)
    kind = rng.choice(["insert", "insert", "update", "delete", "merge"])
    modulus, rest = rng.randint(2, 7), rng.randint(0, 1)
    hit = [key for key in now if key % modulus == rest]
    if kind == "insert":
        rows = [(next_id + i, rng.randint(-9, 9), rng.choice([None, "ä", ""])) for i in range(12)]
        storage.sql(f"insert into {table} values {', '.join(map(literal, rows))}")
        now.update({row[0]: row for row in rows})
    elif kind == "update":
        storage.sql(f"update {table} set amount = amount + 1 where id % {modulus} = {rest}")
        now.update({key: (key, now[key][1] + 1, now[key][2]) for key in hit})
    elif kind == "delete":
        storage.sql(f"delete from {table} where id % {modulus} = {rest} and id % 5 = 0")
        for key in hit:
            if key % 5 == 0:
                del now[key]
    else:
        source = f"(select * from {table} where id % {modulus} = {rest})"
        storage.sql(
            f"merge into {table} as old using {source} as new on old.id = new.id + 1"
            " when matched then update set note = 'merged'"
        )
        for key in hit:
            if key + 1 in now:
                now[key + 1] = (key + 1, now[key + 1][1], "merged")
    return now


def literal(row: Row) -> str:
    note = "null" if row[2] is None else "'" + row[2].replace("'", "\\'") + "'"
    return f"({row[0]}, {row[1]}, {note})"


def replayed(state: State, changes: list[tuple[Any, ...]]) -> State:
    """The rows after the changes; each change must fit the rows that it meets."""
    now = dict(state)
    order = {"delete": 0, "update_preimage": 0, "insert": 1, "update_postimage": 1}
    for kind, _, _, *row in sorted(changes, key=lambda change: (change[2], order[change[0]])):
        if order[kind] == 0:
            assert now.pop(row[0]) == tuple(row)
        else:
            assert row[0] not in now
            now[row[0]] = tuple(row)  # type: ignore[assignment]
    return now


@pytest.mark.soak_on("iceberg")
def test_expired_versions_are_gone_but_for_what_is_tagged(storage: Storage) -> None:
    """First here: it wants a lake without a tag."""
    state = storage.state()
    old = storage.version()
    time.sleep(1)
    present = datetime.now(timezone.utc)
    time.sleep(1)
    storage.sql(f"update {storage.table} set amount = 1")
    storage.verb("tag", relation=storage.table, name="ones")
    ones = storage.version() if storage.engine else storage.version() - 1
    storage.sql(f"update {storage.table} set amount = 2")
    later = "2199-01-01 00:00:00"

    assert "kept promises 30 days" in storage.refused("expire", keep_days=29, as_of=later)
    assert storage.then(old) == state
    if storage.format == "delta":
        assert "has a tag 'ones'" in storage.refused("expire", keep_days=30, as_of=later)
        storage.verb("untag", relation=storage.table, name="ones")
        log = storage.verb("expire", keep_days=30, dry_run=True)
        assert re.search(r"[1-9]\d* tables would be vacuumed of \d+ files", log)
        storage.verb("expire", keep_days=30, as_of=later)
        assert storage.then(old) == state, "Delta's own clock says that it is young"
    else:
        one = {"relation": storage.table} if storage.engine else {}
        storage.verb("expire", keep_days=30, **one)
        assert storage.then(old) == state, "it is young"
        month_later = (present + timedelta(days=30)).strftime("%Y-%m-%d %H:%M:%S")
        storage.verb("expire", keep_days=30, as_of=month_later)
        assert storage.then(old) == state, "it was the present one thirty days ago"
        dry = storage.verb("expire", keep_days=30, as_of=later, dry_run=True)
        assert storage.then(old) == state, "nothing goes"
        log = storage.verb("expire", keep_days=30, as_of=later)
        found = re.search(r"([1-9]\d*) versions expired, [1-9]\d* files removed", log)
        assert found
        assert f"{found[1]} versions would be expired; " in dry
        with pytest.raises(Exception, match=r"No snapshot found|Cannot find snapshot"):
            storage.then(old)
        if storage.format == "iceberg":
            with pytest.raises(AssertionError, match="does not come from"):
                storage.changes([(old, storage.version())])
        assert {row[1] for row in storage.then(ones).values()} == {1}
    assert {row[1] for row in storage.state().values()} == {2}
    storage.release()
    storage.project.run("build")


@pytest.mark.parametrize("long", [False, pytest.param(True, marks=pytest.mark.soak)])
def test_a_history_of_random_changes(storage: Storage, long: bool) -> None:
    """Any version, any two versions, what is restored, and what is tagged: as it was recorded."""
    rng = random.Random(7)
    state = storage.state()
    history = {storage.version(): state}
    short = storage.engine and not long  # a statement takes Spark a second
    steps = 200 if long else 15 if storage.engine else 40
    special = {
        steps // 5: "tag",
        2 * steps // 5: "optimize",
        3 * steps // 5: "restore",
        4 * steps // 5: "cluster",
    }
    tagged: State = {}
    moment, tag = "", f"{steps} \u2019closed`"
    for step in range(steps):
        before = storage.version()
        verb = special.get(step)
        if storage.format == "iceberg" and step in (steps // 3, 5 * steps // 6):
            storage.merge_on_read(step == steps // 3)
        if verb == "tag":
            moment = storage.moment()
            storage.verb("tag", relation=storage.table, name=tag)
            tagged = state
        elif verb == "optimize":
            storage.verb("optimize", relation=storage.table)
        elif verb == "cluster":
            storage.verb("cluster", relation=storage.table, by=["amount", "id"])
        elif verb == "restore":
            storage.verb("restore", relation=storage.table, tag=tag)
            state = tagged
        else:
            state = random_change(rng, storage, state, 1000 * (step + 1))
        assert storage.state() == state
        version = storage.version()
        if storage.format != "iceberg":  # whose versions are not counted
            history.update(dict.fromkeys(range(before + 1, version), None))  # type: ignore[arg-type]
        history[version] = state
    assert storage.at(moment) == tagged
    known = [version for version, rows in history.items() if rows is not None]
    for version in rng.sample(known, 6) if short else known:
        assert storage.then(version) == history[version]
    ranges = [sorted(rng.sample(range(len(known)), 2)) for _ in range(6 if short else 40)]
    pairs = [(known[first], known[last]) for first, last in ranges]
    kinds = set()
    *found, none = storage.changes([*pairs, (known[3], known[3])])
    for (first, last), changes in zip(pairs, found, strict=True):
        assert replayed(history[first], changes) == history[last]
        kinds.update(change[0] for change in changes)
    assert kinds == {"insert", "delete", "update_preimage", "update_postimage"}
    assert none == []


@pytest.mark.soak_on("iceberg")
def test_many_small_files_become_few(storage: Storage) -> None:
    for number in range(12):
        rows = ", ".join(f"({1000 * number + i}, {i}, 'x')" for i in range(100, 140))
        storage.sql(f"insert into {storage.table} values {rows}")
    if storage.format == "iceberg":
        storage.merge_on_read(True)
    storage.sql(f"delete from {storage.table} where id in (1100, 2104, 3139)")
    if storage.format == "iceberg":
        deletes = f"select count(*) > 0 from {storage.table}.delete_files"
        assert storage.sql(deletes) == [(True,)]
    state, version, files = storage.state(), storage.version(), storage.files()
    assert files >= 12
    log = storage.verb("optimize", relation=storage.table)
    assert storage.files() <= 2
    assert re.search(rf"accounts: {files} files before, {storage.files()} after", log)
    assert storage.state() == state == storage.then(version)
    if storage.format == "iceberg":
        assert storage.sql(deletes) == [(False,)]
        manifests = f"select count(*) from {storage.table}.manifests where content = 0"
        assert storage.sql(manifests) == [(1,)]
    version = storage.version()
    storage.verb("optimize", relation=storage.table)
    assert storage.state() == state
    if storage.engine:
        assert storage.version() == version, "there was nothing to do"

    log = storage.verb("health", relation=storage.table)
    assert re.search(rf"^ +{storage.files()} +\d+ .* {storage.table}$", log, re.MULTILINE)
    everything = storage.verb("health")
    assert f"{storage.project.schema}.kept" in everything
    assert f"{storage.project.schema}.seen" not in everything


@pytest.mark.soak_on("iceberg")
@pytest.mark.soak_on("delta")
def test_clustered_files_can_be_skipped(storage: Storage) -> None:
    """The share of files (row groups) whose least and greatest value let a value in."""
    table = f"{storage.project.schema}.kept"
    number = "{n} + id" if storage.engine else "{n} + range"
    rows = "range(100000)"
    storage.sql(f"drop table {table}")
    using = f"using {storage.format}" if storage.engine else ""
    storage.sql(f"create table {table} (id bigint, a bigint, b bigint, c bigint) {using}")
    for n in range(0, 1_200_000, 100_000):
        value = number.format(n=n)
        columns = ", ".join(f"abs(hash({value} + {k}000000) % 1000)" for k in (1, 2, 3))
        storage.sql(f"insert into {table} select {value}, {columns} from {rows}")

    def bounds(column: str) -> str:
        if storage.engine:
            least = f"select min({column}) as low, max({column}) as high from {table}"
            file = "_file" if storage.format == "iceberg" else "_metadata.file_path"
            return f"{least} group by {file}"
        files = storage.sql("select data_file from ducklake_list_files('lakebed', 'kept')")
        return (
            "select stats_min_value::bigint as low, stats_max_value::bigint as high"
            f" from parquet_metadata({[file for (file,) in files]})"
            f" where path_in_schema = '{column}'"
        )

    def share(column: str) -> float:
        found = storage.sql(bounds(column))
        return sum(low <= 500 <= high for low, high in found) / len(found)

    total = f"select count(*), sum(id), sum(a), sum(b), sum(c), sum(a * b) from {table}"
    rows_before, version = storage.sql(total), storage.version(table)
    assert share("a") == share("b") == 1
    storage.verb("cluster", relation=table, by=["a", "b"], target_mb=1)
    assert share("a") <= 0.7
    assert share("b") <= 0.7
    assert share("c") == 1
    assert storage.sql(total) == rows_before

    at = "version as of {}" if storage.engine else "at (version => {})"
    storage.sql(f"delete from {table} where a < 900")
    storage.verb("restore", relation=table, version=version)
    assert storage.sql(total) == rows_before
    assert storage.sql(f"{total} {at.format(version)}") == rows_before


@pytest.mark.soak_on("iceberg")
def test_mistakes_are_one_line_and_touch_nothing(storage: Storage) -> None:
    version, schema = storage.version(), storage.project.schema
    refused = storage.refused
    assert "no table" in refused("optimize", relation=f"{schema}.nothing")
    assert "is a view" in refused("optimize", relation=f"{schema}.seen")
    assert "write schema.table" in refused("optimize", relation="accounts")
    assert "target_mb" in refused("optimize", relation=storage.table, target_mb=0)
    assert "has no column 'colour'" in refused("cluster", relation=storage.table, by="colour")
    assert "has no tag 'gone'" in refused("restore", relation=storage.table, tag="gone")
    assert "one of version" in refused("restore", relation=storage.table)
    assert "is no moment" in refused("restore", relation=storage.table, at="yesterday")
    assert "number of days" in refused("expire", keep_days="-1")
    assert "true or false" in refused("expire", keep_days=40, dry_run="yes")
    first, last = (version, version + 1) if storage.format != "iceberg" else (version, 7)
    with pytest.raises(AssertionError, match=r"from an older version|does not come from"):
        storage.changes([(last, first)])
    if storage.format == "iceberg":
        assert "has a branch 'main'" in refused("tag", relation=storage.table, name="main")
    if not storage.engine:
        where = {"relation": storage.table, "where": "id = 1"}
        assert "DuckLake compacts whole tables" in refused("optimize", **where)
        assert "takes no relation" in refused("expire", keep_days=40, relation=storage.table)
    assert storage.version() == version
