"""join_as_of and scd2_join against a loop over all pairs; test_engines has Spark's rows."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any

import duckdb
import pytest
from harness import DbtProject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PROVES = ["pat-temporal-joins"]

Row = tuple[Any, ...]
START = datetime(2024, 2, 28)

#: Name, what is added to the call, and: how, strict, until.
FORMS = {
    "at_or_before": ("", "left", False, False),
    "matching": (", how='inner'", "inner", False, False),
    "before": (", strict=true", "left", True, False),
    "while_it_held": (", right_until='ends'", "left", False, True),
    "held_matching": (", right_until='ends', how='inner', strict=true", "inner", True, True),
}
FILES = {
    f"analyses/{name}.sql": (
        "{{ lakebed.join_as_of('asks', 'answers', ['part', 'id'], 'asked_at', 'since',"
        f" ['name', 'version + 0 as nr']{more}, right_order='version desc') }}}}"
    )
    for name, (more, *_) in FORMS.items()
} | {
    "analyses/version.sql": (
        "select asks.*, answers.version from asks left join answers"
        " on {{ lakebed.scd2_join('asks', 'answers', ['part', 'id'], 'asked_at', 'since',"
        " 'ends') }}"
    ),
}

keys = (st.sampled_from(["a", "漢", None]), st.sampled_from([1, 2, None]))
time = st.none() | st.integers(0, 12).map(lambda hours: START + timedelta(hours=6 * hours))
asks = st.lists(st.tuples(*keys, time), max_size=12).map(
    lambda rows: [(number, *row) for number, row in enumerate(rows)]
)
answers = st.lists(st.tuples(*keys, time, time, st.sampled_from(["x", None])), max_size=20).map(
    lambda rows: [(*row, number) for number, row in enumerate(rows)]
)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    project = DbtProject(tmp_path_factory.mktemp("as_of"), FILES)
    project.run("compile")
    return {path.split("/")[1][:-4]: project.compiled(path) for path in FILES}


@pytest.fixture(scope="module")
def memory() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    connection.execute(
        "create table asks (number integer, part text, id integer, asked_at timestamp)"
    )
    connection.execute(
        "create table answers (part text, id integer, since timestamp, ends timestamp, name text,"
        " version integer)"
    )
    return connection


def load(connection: duckdb.DuckDBPyConnection, asked: list[Row], given: list[Row]) -> None:
    for table, rows, width in (("asks", asked, 4), ("answers", given, 6)):
        connection.execute(f"delete from {table}")
        if rows:
            connection.executemany(f"insert into {table} values ({','.join('?' * width)})", rows)


def expected(asked: list[Row], given: list[Row], how: str, strict: bool, until: bool) -> list[Row]:
    """Each row that asks with the newest answer, of all there are."""
    found = []
    for number, part, key, at in asked:
        own = [
            row
            for row in given
            if None not in (part, key, at, row[2])
            and row[:2] == (part, key)
            and (row[2] < at or (row[2] == at and not strict))
        ]
        answer = max(own, key=lambda row: (row[2], row[5]), default=None)
        if answer and until and answer[3] is not None and answer[3] <= at:
            answer = None
        if answer or how == "left":
            found.append(
                (number, part, key, at, *((answer[4], answer[5]) if answer else (None,) * 2))
            )
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=asks, given_=answers)
def test_every_form(
    memory: duckdb.DuckDBPyConnection,
    compiled: dict[str, str],
    asked: list[Row],
    given_: list[Row],
) -> None:
    load(memory, asked, given_)
    for name, (_, how, strict, until) in FORMS.items():
        rows = memory.execute(compiled[name]).fetchall()
        assert sorted(rows) == expected(asked, given_, how, strict, until), name


@settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))
@given(asked=asks, starts=st.lists(st.tuples(*keys, time), max_size=20, unique=True))
def test_a_dimension(
    memory: duckdb.DuckDBPyConnection,
    compiled: dict[str, str],
    asked: list[Row],
    starts: list[Row],
) -> None:
    """For versions without overlap the condition finds what join_as_of finds."""
    starts = sorted((row for row in starts if None not in row), key=repr)
    versions = [
        (*row, following[2] if following and following[:2] == row[:2] else None, "x", number)
        for number, (row, following) in enumerate(zip_longest(starts, starts[1:]))
    ]
    load(memory, asked, versions)
    rows = memory.execute(compiled["version"]).fetchall()
    assert sorted(rows) == [
        (*row[:4], row[5]) for row in expected(asked, versions, "left", False, True)
    ]


def test_a_dimension_is_joined_by_hash(
    memory: duckdb.DuckDBPyConnection, compiled: dict[str, str]
) -> None:
    """With `or ends is null` as the condition, DuckDB compares all rows with all."""
    ((_, plan),) = memory.execute(f"explain {compiled['version']}").fetchall()
    assert "HASH_JOIN" in plan
    assert "BLOCKWISE" not in plan


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("[], 'at', 'since', ['name']", "needs keys"),
        ("['id'], 'asked_at', 'since', []", "columns to take"),
        ("['id'], 'asked_at', 'since', ['name'], how='outer'", "not 'outer'"),
        ("['id'], 'asked_at', 'since', ['max(name)']", "cannot name 'max"),
    ],
)
def test_refusals(tmp_path_factory: pytest.TempPathFactory, call: str, message: str) -> None:
    files = {"analyses/wrong.sql": f"{{{{ lakebed.join_as_of('asks', 'answers', {call}) }}}}"}
    project = DbtProject(tmp_path_factory.mktemp("refused"), files)
    with pytest.raises(AssertionError, match=message):
        project.run("compile")
