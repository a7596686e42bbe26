"""deduplicate, deduplicate_by_hash, deduplicate_within: NULLs, ties, Unicode, empty input."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import duckdb
import pytest
from harness import DbtProject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakebed.spark.cluster import Cluster

PROVES = ["pat-deduplication", "pat-idempotent"]

ROWS = """
select * from (values
    (1, 'a', timestamp '2024-01-01 00:00:00', 'first'),
    (1, 'a', timestamp '2024-01-02 00:00:00', 'second'),
    (1, 'b', timestamp '2024-01-01 00:00:00', 'other key'),
    (2, 'ü', timestamp '2024-01-01 00:00:00', 'tie ä'),
    (2, 'ü', timestamp '2024-01-01 00:00:00', 'tie 漢'),
    (2, 'ü', timestamp '2024-01-01 00:00:00', 'tie z'),
    (2, 'ü', timestamp '2024-01-01 00:00:00', null),
    (null, 'a', timestamp '2024-01-01 00:00:00', 'null 1'),
    (null, 'a', timestamp '2024-01-02 00:00:00', 'null 2'),
    (null, 'a', timestamp '2024-01-02 00:00:00', 'null 2'),
    (3, 'c', null, 'no time'),
    (3, 'c', timestamp '2024-01-01 00:00:00', 'has time')
) as t (id, part, changed_at, note)
"""

FILES = {
    "models/rows.sql": "{{ config(materialized='table') }}" + ROWS,
    "models/kept.sql": (
        "{{ lakebed.deduplicate(ref('rows'), ['id', 'part'], 'changed_at desc nulls last') }}"
    ),
    "models/shuffled.sql": (
        "with source as (select * from {{ ref('rows') }} order by note desc nulls first)\n"
        "select * from ("
        "{{ lakebed.deduplicate('source', ['id', 'part'], ['changed_at desc nulls last']) }})"
    ),
    "models/grouped.sql": (
        "{{ lakebed.deduplicate(ref('rows'), ['id', 'part'], 'changed_at desc nulls last',"
        " null_keys='group') }}"
    ),
    "models/filtered.sql": (
        "{{ lakebed.deduplicate(ref('rows'), 'id', 'changed_at', where=\"note like 'tie%'\") }}"
    ),
    "models/nothing.sql": "{{ lakebed.deduplicate(ref('rows'), 'id', where='false') }}",
    "models/no_hash_duplicates.sql": "{{ lakebed.deduplicate_by_hash(ref('rows')) }}",
    "models/by_note.sql": (
        "with source as (select * from {{ ref('rows') }})\n"
        "select * from ({{ lakebed.deduplicate_by_hash("
        "'source', ['id', 'note'], 'changed_at desc nulls last') }})"
    ),
    "models/gap.sql": "{{ lakebed.deduplicate_within('property.events', 'k', 't', 2) }}",
    "models/tumbling.sql": (
        "{{ lakebed.deduplicate_within('property.events', ['k'], 't', 2, mode='tumbling',"
        " order_by='n', null_keys='group') }}"
    ),
    # An ordering with commas in a call and in a text, each NULL placement, both directions.
    "models/first_of_key.sql": (
        "{{ lakebed.deduplicate('property.events', ['k'],"
        " [\"t desc nulls first, coalesce(k, ',(') ASC\", 'n Desc']) }}"
    ),
    "models/first_unique.sql": (
        "{{ lakebed.deduplicate('property.events', ['k', 't'], 'n', null_keys='group',"
        " unique_order=true) }}"
    ),
    "models/_models.yml": """
version: 2
models:
  - name: kept
    data_tests:
      - lakebed.unique_key:
          name: unique_must_fail
          arguments: {columns: [id, part]}
  - name: filtered
    data_tests:
      - lakebed.unique_key:
          name: unique_must_pass
          arguments: {columns: [id]}
""",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, engine: Cluster | None) -> DbtProject:
    project = DbtProject(tmp_path_factory.mktemp("deduplicate"), FILES, cluster=engine)
    project.query("create schema if not exists property")
    project.query("create table property.events (k string, t timestamp, n integer)")
    run = project.run("build", check=False)
    assert {k: v for k, v in run.statuses.items() if v != "success"} == {
        "unique_must_fail": "fail",  # its NULL keys are kept
        "unique_must_pass": "pass",
    }, run.log
    return project


def notes(project: DbtProject, model: str) -> list[str | None]:
    rows = project.query(f"select note from {model} order by note nulls last")
    return [row[0] for row in rows]


def tie(project: DbtProject) -> str | None:
    """Of rows that nothing tells apart but a NULL, whole_row takes another one on each engine."""
    return None if project.cluster else "tie z"


def test_one_row_a_key_and_every_unknown_key(project: DbtProject) -> None:
    kept = ["has time", "null 1", "null 2", "null 2", "other key", "second"]
    assert notes(project, "kept") == [*kept, tie(project)]


def test_ties_do_not_depend_on_storage_order(project: DbtProject) -> None:
    assert project.table_hash("kept") == project.table_hash("shuffled")


def test_null_keys_can_be_one_group(project: DbtProject) -> None:
    kept = ["has time", "null 2", "other key", "second"]
    assert notes(project, "grouped") == [*kept, tie(project)]


def test_filter_and_empty_input(project: DbtProject) -> None:
    assert project.query("select id, note from filtered") == [(2, "tie z")]
    assert project.query("select * from nothing") == []


def test_no_helper_column_is_left(project: DbtProject) -> None:
    assert project.table("select * from kept")[0] == ["id", "part", "changed_at", "note"]


def test_running_again_changes_nothing(project: DbtProject) -> None:
    before = project.table_hash("kept")
    project.run("run")
    assert project.table_hash("kept") == before


def test_exact_duplicates_go(project: DbtProject) -> None:
    for model, rows in (("rows", 12), ("no_hash_duplicates", 11)):
        assert len(project.query(f"select * from {model}")) == rows
        assert len(project.query(f"select distinct * from {model}")) == 11
    assert project.query("select changed_at from by_note where note = 'null 2'") == [
        (datetime(2024, 1, 2),)
    ]
    assert project.query("select count(*) from by_note") == [(11,)]


# --- A window of time: the compiled SQL against a brute-force oracle. ---

COMPILED = ("gap", "tumbling", "first_of_key", "first_unique")
EPOCH = datetime(1970, 1, 1)
Event = tuple["str | None", "datetime | None", int]
times = st.one_of(
    st.none(),
    # Half seconds around the epoch: borders of windows, and times before 1970.
    st.integers(-8, 8).map(lambda half: EPOCH + timedelta(seconds=half / 2)),
)
events = st.lists(
    st.tuples(st.sampled_from(["a", "ü", None]), times, st.integers(0, 3)), max_size=12
)


def oracle(rows: list[Event], mode: str) -> list[Event]:
    """Row by row: is it a repeat? Gap mode keeps NULL keys, tumbling mode (here) groups them."""

    def order(row: Event) -> tuple[datetime, int]:
        return (row[1] or EPOCH, row[2])

    kept = []
    for at, row in enumerate(ordered := sorted(rows, key=order)):
        earlier = [r for r in ordered[:at] if r[0] == row[0] and r[1] is not None]
        if row[1] is None or (mode == "gap" and row[0] is None):
            repeat = False
        elif mode == "gap":
            repeat = any(row[1] - r[1] <= timedelta(seconds=2) for r in earlier)
        else:
            window = (row[1] - EPOCH) // timedelta(seconds=2)
            repeat = any((r[1] - EPOCH) // timedelta(seconds=2) == window for r in earlier)
        if not repeat:
            kept.append(row)
    return sorted(kept, key=repr)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events)
def test_within_a_window(memory: Memory, rows: list[Event]) -> None:
    connection, sql = memory
    connection.execute("delete from property.events")
    if rows:
        connection.executemany("insert into property.events values (?, ?, ?)", rows)
    for mode in ("gap", "tumbling"):
        result = connection.execute(sql[mode]).fetchall()
        assert sorted(result, key=repr) == oracle(rows, mode), mode


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(events)
def test_first_by_an_ordering(memory: Memory, rows: list[Event]) -> None:
    connection, sql = memory
    connection.execute("delete from property.events")
    if rows:
        connection.executemany("insert into property.events values (?, ?, ?)", rows)

    def newest(row: Event) -> tuple[bool, float, int]:
        return (row[1] is not None, -((row[1] or EPOCH) - EPOCH).total_seconds(), -row[2])

    known = {row[0] for row in rows} - {None}
    expected = [min((row for row in rows if row[0] == key), key=newest) for key in known]
    expected += [row for row in rows if row[0] is None]
    result = connection.execute(sql["first_of_key"]).fetchall()
    assert sorted(result, key=repr) == sorted(expected, key=repr)

    # Equal rows are the only ties left by n here, so that it does not matter which one stays.
    groups = {row[:2]: min(other[2] for other in rows if other[:2] == row[:2]) for row in rows}
    result = connection.execute(sql["first_unique"]).fetchall()
    assert sorted(result, key=repr) == sorted(((*k, n) for k, n in groups.items()), key=repr)


Memory = tuple[duckdb.DuckDBPyConnection, dict[str, str]]


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    """The SQL that dbt makes for DuckDB; test_engines compares its rows with Spark's."""
    project = DbtProject(tmp_path_factory.mktemp("compiled"), FILES)
    project.run("compile")
    connection = duckdb.connect()
    connection.execute("create schema property")
    connection.execute("create table property.events (k varchar, t timestamp, n integer)")
    return connection, {n: project.compiled(f"models/{n}.sql") for n in COMPILED}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("lakebed.deduplicate(ref('rows'), [])", "needs at least one key"),
        ("lakebed.deduplicate(ref('rows'), 'id', null_keys='drop')", "not 'drop'"),
        ("lakebed.deduplicate(ref('rows'), 'id', 'a,,b')", "'a,,b' is not an ordering"),
        ("lakebed.deduplicate(ref('rows'), 'id', 'coalesce(a, b')", "an open quote or bracket"),
        ("lakebed.deduplicate(ref('rows'), 'id', unique_order=true)", "needs an order_by"),
        ("lakebed.deduplicate_within(ref('rows'), 'id', 'changed_at', 0)", "at least 1, not 0"),
        ("lakebed.deduplicate_within(ref('rows'), 'id', 'changed_at', 1, 'slide')", "'slide'"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, call: str, message: str) -> None:
    project = DbtProject(
        tmp_path, {"models/rows.sql": ROWS, "models/wrong.sql": "{{ " + call + " }}"}
    )
    with pytest.raises(AssertionError, match=message):
        project.run("parse")
