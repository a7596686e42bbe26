"""The upsert strategy: any split, any order, any repetition of the changes ends the same."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from harness import UPSERT_STRATEGY, DbtProject
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lakebed.spark.cluster import Cluster

PROVES = ["pat-merge-upsert", "pat-scd-type1", "pat-idempotent"]

COLUMNS = ["part", "id", "version", "is_deleted", "note"]
Change = tuple[Any, ...]

MODEL = """
with changes as (select * from {{ ref('changes') }} where batch = {{ var('batch') }})

{{ lakebed.upsert_source('changes') }}
"""


def config(name: str, **upsert: str) -> str:
    return f"""
  - name: {name}
    config:
      materialized: incremental
      incremental_strategy: upsert
      unique_key: [part, id]
      meta: {{upsert: {upsert}}}
"""


#: SQL of the macros for a table `target` and a batch `source`, by what is done with deletes.
ANALYSIS = """
{% set spec = {'keys': ['part', 'id'], 'version': 'version', 'delete_flag': FLAG,
    'delete': DELETE, 'on_equal': 'EQUAL'} %}
{% set columns = ['part', 'id', 'version', 'is_deleted', 'note'] %}
{{ adapter.dispatch('upsert_sql', 'lakebed')('target', 'source', columns, spec) }}
;
{{ lakebed.upsert_source('source', spec['keys'], 'version', FLAG, DELETE) }}
"""

KINDS = {
    "tombstone": ("'is_deleted'", "'tombstone'", "converge"),
    "hard": ("'is_deleted'", "'hard'", "converge"),
    "plain": ("none", "none", "converge"),
    "keep": ("'is_deleted'", "'tombstone'", "keep"),
    "replace": ("none", "none", "replace"),
}


def analysis(flag: str, delete: str, equal: str) -> str:
    return ANALYSIS.replace("FLAG", flag).replace("DELETE", delete).replace("EQUAL", equal)


def random_changes() -> list[tuple[Any, ...]]:
    """Changes of some hundred keys in four batches: duplicates, disorder, NULLs, deletes."""
    rng = random.Random(11)
    rows = {}
    for _ in range(900):
        key = (rng.choice(["a", "ü", "漢", None]), rng.choice([*range(30), None]))
        version = rng.choice([None, *range(6)])
        rows[(*key, version)] = (rng.choice([True, False, False, None]), rng.choice("xyz漢"))
    changes = [(rng.randrange(1, 5), *key, *values) for key, values in rows.items()]
    changes += [(rng.randrange(1, 5), *row[1:]) for row in rng.sample(changes, 100)]
    return changes


MANY = random_changes()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, engine: Cluster | None) -> DbtProject:
    files = {
        "macros/strategy.sql": UPSERT_STRATEGY,
        "seeds/changes.csv": "\n".join(
            [
                "batch,part,id,version,is_deleted,note",
                "1,a,1,1,false,old",
                "1,a,1,2,false,new",
                "1,a,1,2,false,new",
                "1,ü,2,5,false,Füße 漢字",
                "1,a,3,1,false,to be deleted",
                "1,,4,1,false,key with a null",
                "1,a,5,9,true,deleted before it came",
                "1,a,7,1,false,deleted for good",
                "2,a,1,1,false,late",
                "2,ü,2,6,false,Füße 漢字 2",
                "2,a,3,2,true,deleted",
                "2,a,7,2,true,deleted for good",
                "2,,4,2,false,key with a null 2",
                "3,a,3,1,false,older than the delete",
                "3,a,5,8,false,older than the delete",
                "3,a,6,,false,no version",
                "4,a,6,1,false,a version",
                "4,a,3,3,false,born again",
            ]
        ),
        "seeds/many.csv": "\n".join(
            [
                "batch,part,id,version,is_deleted,note",
                *(",".join("" if v is None else str(v) for v in row) for row in MANY),
            ]
        ),
        "models/many_keys.sql": MODEL.replace("'changes'", "'many'", 1),
        "models/plain.sql": MODEL,
        "models/tombstone.sql": MODEL,
        "models/hard.sql": MODEL,
        "models/_models.yml": "version: 2\nmodels:"
        + config("plain", version="version")
        + config("tombstone", version="version", delete_flag="is_deleted")
        + config("hard", version="version", delete_flag="is_deleted", delete="hard")
        + config("many_keys", version="version", delete_flag="is_deleted"),
    }
    types = {"part": "string", "is_deleted": "boolean"}
    project = DbtProject(
        tmp_path_factory.mktemp("upsert"),
        files,
        vars={"batch": 1},
        config={"seeds": {"lakebed_test": {"+column_types": types}}},
        cluster=engine,
    )
    for batch in (1, 2, 3, 4):
        project.run("build", "--vars", f"batch: {batch}")
    return project


def test_a_table_built_in_four_batches(project: DbtProject) -> None:
    query = "select id, version, is_deleted, note from {} order by id"
    live = [
        (1, 2, False, "new"),
        (2, 6, False, "Füße 漢字 2"),
        (3, 3, False, "born again"),
        (4, 2, False, "key with a null 2"),
        (5, 9, True, "deleted before it came"),
        (6, 1, False, "a version"),
        (7, 2, True, "deleted for good"),
    ]
    assert project.query(query.format("tombstone")) == live
    assert project.query(query.format("plain")) == live
    # A hard delete forgets: the older change of key 5 is back. That is its stated price.
    live[4] = (5, 8, False, "older than the delete")
    assert project.query(query.format("hard")) == live[:-1]


def test_many_keys_equal_the_oracle(project: DbtProject) -> None:
    rows = project.query("select part, id, version, is_deleted, note from many_keys")
    expected = newest([change[1:] for change in MANY]).values()
    assert sorted(rows, key=repr) == sorted(expected, key=repr)


def test_a_batch_again_changes_nothing(project: DbtProject) -> None:
    before = {name: project.table_hash(name) for name in ("plain", "tombstone", "hard")}
    project.run("run", "--vars", "batch: 2")
    assert before == {name: project.table_hash(name) for name in before}


# --- Any split, any order: the SQL of the macros against a brute-force oracle. ---


class Table:
    """A lake table that batches are upserted into, by the SQL that dbt compiled."""

    def __init__(self, lake: duckdb.DuckDBPyConnection, compiled: str) -> None:
        self.lake = lake
        *self.merge, self.first = [part for part in compiled.split(";") if part.strip()]

    def load(self, batches: Iterable[list[Change]]) -> list[Change]:
        """The rows after all batches, the first of which builds the table."""
        self.lake.execute("drop table if exists target")
        for number, batch in enumerate(batches):
            self.lake.execute("delete from source")
            if batch:
                self.lake.executemany("insert into source values (?, ?, ?, ?, ?)", batch)
            if number == 0:
                self.lake.execute(f"create table target as {self.first}")
                continue
            self.lake.execute("begin")
            for statement in self.merge:
                self.lake.execute(statement)
            self.lake.execute("commit")
        rows = self.lake.execute("select * from target").fetchall()
        return sorted(rows, key=repr)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Table]]:
    files = {f"analyses/sql_{name}.sql": analysis(*kind) for name, kind in KINDS.items()}
    project = DbtProject(tmp_path_factory.mktemp("compiled"), files)
    project.run("compile")
    with project.connect() as lake:
        lake.execute("create schema property")
        lake.execute("use lakebed.property")
        lake.execute(
            "create temp table source "
            "(part varchar, id integer, version integer, is_deleted boolean, note varchar)"
        )
        yield {name: Table(lake, project.compiled(f"analyses/sql_{name}.sql")) for name in KINDS}


def newest(changes: list[Change]) -> dict[tuple[Any, ...], Change]:
    """The oracle: by key, the change with the highest version; the delete of equal ones."""

    def rank(change: Change) -> tuple[int, bool]:
        return (-1 if change[2] is None else change[2], bool(change[3]))

    best: dict[tuple[Any, ...], Change] = {}
    for change in changes:
        if change[:2] not in best or rank(change) > rank(best[change[:2]]):
            best[change[:2]] = change
    return best


def batches_of(changes: list[Change], seed: int) -> list[list[Change]]:
    """The changes in another order, some twice, cut into batches (some of them empty)."""
    rng = random.Random(seed)
    changes = changes + rng.sample(changes, rng.randrange(len(changes) + 1))
    rng.shuffle(changes)
    cuts = sorted(rng.randrange(len(changes) + 1) for _ in range(rng.randrange(3)))
    return [changes[a:b] for a, b in zip([0, *cuts], [*cuts, len(changes)], strict=True)]


keys = st.tuples(st.sampled_from(["a", "ü", None]), st.sampled_from([1, None]))
change = st.tuples(
    keys,
    st.sampled_from([None, 0, 1, 2]),
    st.sampled_from([True, False, None]),
    st.sampled_from(["x", "漢", "it's", "", None]),
).map(lambda parts: (*parts[0], *parts[1:]))
many = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@many
@given(st.lists(change, min_size=1, max_size=8), st.integers(0, 9999))
def test_contradictions_converge(tables: dict[str, Table], changes: list, seed: int) -> None:
    for name in ("tombstone", "plain"):
        whole = tables[name].load([changes])
        assert tables[name].load(batches_of(changes, seed)) == whole
        if name == "tombstone":
            expected = {key: row[2:3] for key, row in newest(changes).items()}
            assert {row[:2]: row[2:3] for row in whole} == expected


@many
@given(
    st.lists(change, min_size=1, max_size=8, unique_by=lambda row: row[:3]),
    st.integers(0, 9999),
)
def test_equal_to_the_oracle(tables: dict[str, Table], changes: list, seed: int) -> None:
    expected = sorted(newest(changes).values(), key=repr)
    for name in ("tombstone", "keep", "replace"):
        assert tables[name].load(batches_of(changes, seed)) == expected, name


@many
@given(
    st.lists(change, min_size=1, max_size=8, unique_by=lambda row: row[:3]),
    st.integers(0, 9999),
)
def test_hard_deletes_in_order_of_version(
    tables: dict[str, Table], changes: list, seed: int
) -> None:
    """What `hard` promises: changes that come in order end as the oracle without deletes."""
    changes = sorted(changes, key=lambda row: -1 if row[2] is None else row[2])
    cut = seed % (len(changes) + 1)
    expected = sorted((row for row in newest(changes).values() if not row[3]), key=repr)
    assert tables["hard"].load([changes[:cut], changes[cut:]]) == expected
    assert tables["hard"].load([changes]) == expected


def test_on_equal_says_who_wins(tables: dict[str, Table]) -> None:
    first, second = ("a", 1, 1, False, "first"), ("a", 1, 1, False, "second")
    for one, other in ((first, second), (second, first)):
        assert tables["keep"].load([[one], [other]]) == [one]
        assert tables["replace"].load([[one], [other]]) == [other]
    assert tables["plain"].load([[first], [second]]) == tables["plain"].load([[second], [first]])


def test_wrong_settings_are_refused(tmp_path: Path) -> None:
    wrong = {
        "no_version": {},
        "guess": {"version": "version", "on_equal": "guess"},
        "maybe": {"version": "version", "delete_flag": "is_deleted", "delete": "maybe"},
    }
    files = {f"models/{n}.sql": "{{ lakebed.upsert_source('(select 1 as id)') }}" for n in wrong}
    files["macros/strategy.sql"] = UPSERT_STRATEGY
    files["models/_models.yml"] = "version: 2\nmodels:" + "".join(
        config(name, **upsert) for name, upsert in wrong.items()
    )
    run = DbtProject(tmp_path, files).run("run", check=False)
    assert set(run.statuses.values()) == {"error"}
    for message in ("needs unique_key and meta.upsert.version", "not 'guess'", "not 'maybe'"):
        assert message in run.log


def test_the_strategy_must_be_named_in_the_project(tmp_path: Path) -> None:
    """dbt finds no strategy in an installed package, hence the macro in the docstring."""
    model = "{{ config(materialized='incremental', incremental_strategy='upsert') }} select 1 as id"
    project = DbtProject(tmp_path, {"models/one.sql": model})
    project.run("run")
    with pytest.raises(AssertionError, match="get_incremental_upsert_sql"):
        project.run("run")
