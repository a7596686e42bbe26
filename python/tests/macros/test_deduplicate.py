"""deduplicate, deduplicate_by_hash, deduplicate_within: NULLs, ties, Unicode, empty input."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import DbtProject

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
def project(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    project = DbtProject(tmp_path_factory.mktemp("deduplicate"), FILES)
    run = project.run("build", check=False)
    assert {k: v for k, v in run.statuses.items() if v != "success"} == {
        "unique_must_fail": "fail",  # its NULL keys are kept
        "unique_must_pass": "pass",
    }, run.log
    return project


def notes(project: DbtProject, model: str) -> list[str | None]:
    rows = project.query(f"select note from {model} order by note")
    return [row[0] for row in rows]


def test_one_row_a_key_and_every_unknown_key(project: DbtProject) -> None:
    assert notes(project, "kept") == [
        *("has time", "null 1", "null 2", "null 2", "other key", "second", "tie z"),
    ]


def test_ties_do_not_depend_on_storage_order(project: DbtProject) -> None:
    assert project.table_hash("kept") == project.table_hash("shuffled")


def test_null_keys_can_be_one_group(project: DbtProject) -> None:
    assert notes(project, "grouped") == ["has time", "null 2", "other key", "second", "tie z"]


def test_filter_and_empty_input(project: DbtProject) -> None:
    assert project.query("select id, note from filtered") == [(2, "tie z")]
    assert project.query("select * from nothing") == []


def test_no_helper_column_is_left(project: DbtProject) -> None:
    assert [row[0] for row in project.query("describe kept")] == ["id", "part", "changed_at", "note"]


def test_running_again_changes_nothing(project: DbtProject) -> None:
    before = project.table_hash("kept")
    project.run("run")
    assert project.table_hash("kept") == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("lakebed.deduplicate(ref('rows'), [])", "needs at least one key"),
        ("lakebed.deduplicate(ref('rows'), 'id', null_keys='drop')", "not 'drop'"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, call: str, message: str) -> None:
    project = DbtProject(
        tmp_path, {"models/rows.sql": ROWS, "models/wrong.sql": "{{ " + call + " }}"}
    )
    with pytest.raises(AssertionError, match=message):
        project.run("parse")
