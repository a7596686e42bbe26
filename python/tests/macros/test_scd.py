"""scd2_from_changes, scd6, scd2_intervals: histories from change logs, late and out of order."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pytest
from harness import DbtProject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakebed.spark.cluster import Cluster

PROVES = ["pat-scd-type2", "pat-scd-type6"]

START = datetime(2024, 1, 1)
Change = tuple[Any, ...]
Memory = tuple[duckdb.DuckDBPyConnection, dict[str, str]]

HISTORY = """
select * from (values
    (1, 'x', timestamp '2024-01-01', timestamp '2024-02-01', false),
    (1, 'y', timestamp '2024-02-01', null, true),
    (2, 'ü', timestamp '2024-01-01', {to}, {current})
    {more}
) as t (id, name, valid_from, valid_to, is_current)
"""


def history(to: str = "null", current: str = "true", more: str = "") -> str:
    return HISTORY.format(to=to, current=current, more=more)


#: Histories that are right, and wrong in one way each.
BROKEN = {
    "gap": history(more=", (1, 'w', timestamp '2023-01-01', timestamp '2023-12-31', false)"),
    "overlap": history(more=", (1, 'w', timestamp '2023-01-01', timestamp '2024-01-02', false)"),
    "twice": history(more=", (1, 'x', timestamp '2024-01-01', timestamp '2024-02-01', false)"),
    "two_current": history(more=", (2, 'v', timestamp '2023-01-01', null, true)"),
    "backwards": history(to="timestamp '2023-01-01'", current="false"),
    "no_length": history(to="timestamp '2024-01-01'", current="false"),
    "mislabelled": history(to="timestamp '2024-03-01'", current="true"),
    "no_start": history(more=", (3, 'v', null, null, true)"),
}
RIGHT = {"good": history(), "ended": history(to="timestamp '2024-03-01'", current="false")}


def interval_tests() -> str:
    lines = ["version: 2", "models:"]
    for name in [*BROKEN, *RIGHT]:
        lines += [
            f"  - name: {name}",
            "    data_tests:",
            f"      - lakebed.scd2_intervals: {{name: {name}_holds, arguments: {{keys: [id]}}}}",
        ]
        if name == "gap":
            lines += [
                "      - lakebed.scd2_intervals:",
                "          name: gap_allowed",
                "          arguments: {keys: [id], allow_gaps: true}",
            ]
    return "\n".join(lines)


FILES = {
    **{f"models/{name}.sql": sql for name, sql in (BROKEN | RIGHT).items()},
    **{
        "models/_models.yml": interval_tests(),
        "models/scd2.sql": (
            "{{ lakebed.scd2_from_changes('property.changes', ['part', 'id'], ['name', 'size'],"
            " 'changed_at', order_by=['arrived'], deleted='is_deleted') }}"
        ),
        "models/scd6.sql": ("{{ lakebed.scd6(ref('scd2'), ['part', 'id'], ['name', 'size']) }}"),
        "models/without_delete.sql": (
            "{{ lakebed.scd2_from_changes('property.changes', 'id', ['name'], 'changed_at',"
            " surrogate_key='thing_key', carry=['arrived']) }}"
        ),
    },
}


#: The times of the question are DuckDB's variables, so that each example asks another.
BELIEVED = (
    "{{ lakebed.as_believed('property.changes', ['part', 'id'], ['name', 'size'],"
    " 'changed_at', 'arrived', \"getvariable('believed')\", \"getvariable('about')\","
    " order_by=['arrived'], deleted='is_deleted', carry=['arrived']) }}"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, engine: Cluster | None) -> DbtProject:
    project = DbtProject(tmp_path_factory.mktemp("scd"), FILES, cluster=engine)
    project.query("create schema if not exists property")
    project.query(TABLE)
    run = project.run("build", check=False)
    expected = dict.fromkeys((f"{name}_holds" for name in BROKEN), "fail")
    expected |= dict.fromkeys([*(f"{name}_holds" for name in RIGHT), "gap_allowed"], "pass")
    tests = {name: status for name, status in run.statuses.items() if name in expected}
    assert tests == expected, run.log
    assert project.query("select * from scd6") == []  # no changes, no versions
    return project


TABLE = """
create table property.changes (
    part string, id integer, name string, size integer, changed_at timestamp,
    is_deleted boolean, arrived integer
)
"""


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    """The SQL that dbt makes for DuckDB; test_engines compares its rows with Spark's."""
    files = {**FILES, "models/believed.sql": BELIEVED}
    project = DbtProject(tmp_path_factory.mktemp("compiled"), files)
    project.run("compile")
    connection = duckdb.connect()
    connection.execute("create schema property")
    connection.execute(TABLE)
    for name in ("scd2", "without_delete"):
        connection.execute(f"create view {name} as {project.compiled(f'models/{name}.sql')}")
    sql = {"scd6": project.compiled("models/scd6.sql").replace('"lakebed"."main".', "")}
    sql["believed"] = project.compiled("models/believed.sql")
    return connection, sql


def load(connection: duckdb.DuckDBPyConnection, changes: list[Change]) -> None:
    connection.execute("delete from property.changes")
    if changes:
        connection.executemany("insert into property.changes values (?,?,?,?,?,?,?)", changes)


def versions(changes: list[Change]) -> list[tuple[Any, ...]]:
    """The oracle: (part, id, name, size, from, to), walking through each key's instants."""
    result = []
    for key in {row[:2] for row in changes}:
        own = [row for row in changes if row[:2] == key and row[4] is not None]
        states: dict[datetime, Any] = {}
        for row in sorted(own, key=lambda row: row[6]):
            states[row[4]] = None if row[5] else row[2:4]
        current, since = None, None
        for at in sorted(states):
            if states[at] == current:
                continue
            if current is not None:
                result.append((*key, *current, since, at))
            current, since = states[at], at
        if current is not None:
            result.append((*key, *current, since, None))
    return sorted(result, key=repr)


change = st.tuples(
    st.sampled_from(["a", None]),
    st.sampled_from([1, None]),
    st.sampled_from(["x", "漢|~", "", None]),
    st.sampled_from([1, None]),
    st.one_of(st.none(), st.integers(0, 5).map(lambda day: START + timedelta(days=day))),
    st.sampled_from([True, False, False, None]),
    st.integers(0, 99),
)
logs = st.lists(change, max_size=12, unique_by=lambda row: row[6])
many = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@many
@given(logs, st.integers(0, 9999))
def test_scd2_equals_the_oracle(memory: Memory, changes: list[Change], seed: int) -> None:
    connection, _ = memory
    # Stored in another order, and some rows twice: the history is the same.
    rng = random.Random(seed)
    stored = changes + rng.sample(changes, rng.randrange(len(changes) + 1))
    rng.shuffle(stored)
    load(connection, stored)
    rows = connection.execute(
        "select part, id, name, size, valid_from, valid_to, is_current, version_key from scd2"
    ).fetchall()
    assert sorted((row[:6] for row in rows), key=repr) == versions(changes)
    assert all(row[6] == (row[5] is None) for row in rows)
    assert len({row[7] for row in rows}) == len(rows)


@many
@given(st.lists(change, max_size=12))
def test_history_without_gap_or_overlap_even_for_ties(
    memory: Memory, changes: list[Change]
) -> None:
    connection, _ = memory
    load(connection, changes)
    query = "select *, lead(valid_from) over (partition by {} order by valid_from) as n from {}"
    broken = "where valid_from >= valid_to or {} or (valid_to is null and n is not null)"
    one = f"select * from ({query.format('part, id', 'scd2')}) {broken.format('valid_to > n')}"
    two = f"select * from ({query.format('id', 'without_delete')}) "
    assert connection.execute(one).fetchall() == []
    assert connection.execute(two + broken.format("valid_to != n")).fetchall() == []
    first = connection.execute("select * from scd2 order by all").fetchall()
    load(connection, changes[::-1])
    assert connection.execute("select * from scd2 order by all").fetchall() == first


@many
@given(logs)
def test_scd6_equals_the_oracle(memory: Memory, changes: list[Change]) -> None:
    connection, sql = memory
    load(connection, changes)
    result = connection.execute(sql["scd6"])
    names = [column[0] for column in result.description or []]
    rows = [dict(zip(names, row, strict=True)) for row in result.fetchall()]
    assert names[-4:] == ["name_current", "name_previous", "size_current", "size_previous"]
    assert len(names) == 12
    assert sorted([(r["part"], r["id"], r["valid_from"]) for r in rows], key=repr) == sorted(
        [(v[0], v[1], v[4]) for v in versions(changes)], key=repr
    )
    for row in rows:
        own = [r for r in rows if (r["part"], r["id"]) == (row["part"], row["id"])]
        own.sort(key=lambda r: r["valid_from"])
        for column in ("name", "size"):
            before = [r[column] for r in own if r["valid_from"] < row["valid_from"]]
            while before and before[-1] == row[column]:
                before.pop()
            assert row[f"{column}_previous"] == (before[-1] if before else None)
            assert row[f"{column}_current"] == own[-1][column]


@many
@given(logs, st.integers(0, 12), st.integers(-1, 6))
def test_what_was_believed(memory: Memory, changes: list[Change], nth: int, day: int) -> None:
    """The history of what had arrived by then, at that moment."""
    connection, sql = memory
    known = changes[nth][6] if nth < len(changes) else -1
    load(connection, changes)
    about = START + timedelta(days=day)
    connection.execute(
        f"set variable believed = {known}; set variable about = '{about}'::timestamp"
    )
    columns = "part, id, name, size, valid_from, valid_to"
    rows = connection.execute(f"select {columns} from ({sql['believed']})").fetchall()
    assert sorted(rows, key=repr) == [
        version
        for version in versions([row for row in changes if row[6] <= known])
        if version[4] <= about and (version[5] is None or version[5] > about)
    ]


def test_a_history_to_read(memory: Memory) -> None:
    """One key, told in the wrong order, with a delete, a return and a tie."""
    connection, sql = memory
    rows = [
        ("a", 1, "Berlin", 1, 3, False, 5),
        ("a", 1, "München", 1, 1, False, 6),  # late
        ("a", 1, "Bonn", 1, 1, False, 2),  # the same instant, but said earlier
        ("a", 1, "Berlin", 1, 4, False, 7),  # nothing new
        ("a", 1, None, None, 6, True, 8),
        ("a", 1, "東京", 1, 9, None, 9),
    ]
    load(connection, [(*r[:4], START + timedelta(days=r[4]), *r[5:]) for r in rows])
    query = "select name, day(valid_from), day(valid_to), name_current, name_previous from ({})"
    result = connection.execute(query.format(sql["scd6"]) + " order by valid_from").fetchall()
    assert result == [
        ("München", 2, 4, "東京", None),
        ("Berlin", 4, 7, "東京", "München"),
        ("東京", 10, None, "東京", "Berlin"),
    ]


def test_a_version_carries_what_its_first_change_said(memory: Memory) -> None:
    connection, _ = memory
    rows = [("x", 1, 7), ("x", 2, 1), ("y", 3, 9), ("y", 3, 8)]
    load(connection, [("a", 1, n, 1, START + timedelta(days=d), None, a) for n, d, a in rows])
    query = "select name, arrived, is_current from without_delete order by valid_from"
    assert connection.execute(query).fetchall() == [("x", 7, False), ("y", 8, True)]
    names = [row[0] for row in connection.execute("describe without_delete").fetchall()]
    assert names == ["thing_key", "id", "name", "arrived", "valid_from", "valid_to", "is_current"]


def test_of_one_instant_and_one_arrival_the_delete_holds(memory: Memory) -> None:
    connection, _ = memory
    states = [("a", 1, f"n{i}", i, START, False, 1) for i in range(40)]
    load(connection, [*states, ("a", 1, "n0", 0, START, True, 1)])
    assert connection.execute("select * from scd2").fetchall() == []
    load(connection, states)
    assert connection.execute("select count(*) from scd2").fetchall() == [(1,)]


def test_rebuilding_changes_nothing(project: DbtProject) -> None:
    rows = (
        f"('a', {i % 3}, 'n{i % 5}', {i}, timestamp '2024-01-{i + 1:02}', {i % 7 == 0}, {i})"
        for i in range(30)
    )
    project.query(f"insert into property.changes values {', '.join(rows)}")
    project.run("run", "--select", "scd2", "scd6")
    before = project.table_hash("scd6")
    project.run("run", "--select", "scd2", "scd6")
    assert project.table_hash("scd6") == before
    assert project.query("select count(*) > 15 from scd6") == [(True,)]
