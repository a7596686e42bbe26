"""surrogate_key: different values never give one key, equal values always do."""

from __future__ import annotations

import hashlib

import duckdb
import pytest
from harness import DbtProject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

PROVES = ["pat-dimensional-modeling", "pat-scd-type2"]

Memory = tuple[duckdb.DuckDBPyConnection, str]
KEY = "{{ lakebed.surrogate_key(['a', 'b']) }}"


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> Memory:
    project = DbtProject(tmp_path_factory.mktemp("key"), {"models/key.sql": f"select {KEY} as k"})
    project.run("compile")
    return duckdb.connect(), project.compiled("models/key.sql")


def key(memory: Memory, a: object, b: object, types: str = "varchar") -> str:
    connection, sql = memory
    query = f"{sql} from (select cast(? as {types}) as a, cast(? as {types}) as b)"
    return connection.execute(query, [a, b]).fetchall()[0][0]


text = st.one_of(st.none(), st.text(alphabet="|~01aü漢 '\"", max_size=4))


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.tuples(text, text), st.tuples(text, text))
def test_one_key_means_one_value(
    memory: Memory, one: tuple[str | None, str | None], two: tuple[str | None, str | None]
) -> None:
    assert (key(memory, *one) == key(memory, *two)) == (one == two)


def test_neighbours_do_not_run_together(memory: Memory) -> None:
    pairs = [("a|", "b"), ("a", "|b"), ("a", None), ("a", ""), (None, "a"), ("", "a"), ("a~", "b")]
    assert len({key(memory, *pair) for pair in pairs}) == len(pairs)


def test_the_text_is_plain_so_that_any_engine_can_make_it(memory: Memory) -> None:
    """The key of a number is that of its text, whatever its width; NULL is a lone tilde."""
    assert key(memory, 7, None, "bigint") == hashlib.md5(b"7|~").hexdigest()
    assert key(memory, 7, None, "integer") == key(memory, "7", None)
    moment = key(memory, "2024-01-01", None, "timestamp")
    assert moment == hashlib.md5(b"2024-01-01 00:00:00|~").hexdigest()
    assert key(memory, "ü", "漢") == hashlib.md5("ü|漢".encode()).hexdigest()
