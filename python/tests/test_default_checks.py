"""Every table is checked after a run, also one that nobody wrote a word about."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest
from harness import DbtProject

PROVES = ["pat-quality-checks-defaults", "pat-completeness-check", "pat-freshness-check"]

ORDERS = """
select * from (values
    {rows}
) as orders (id, name, sold_at)
"""
GOOD = ",".join(f"({n}, 'n{n}', timestamp '2024-01-06 12:00:00')" for n in range(20))
AS_OF = {"as_of": "2024-01-07 12:00:00"}
WRONG = (
    "select table_name, check_name, column_name, status from ops.table_checks"
    " where status != 'pass' order by all"
)


@pytest.fixture
def project(tmp_path: Path) -> DbtProject:
    files = {
        "models/orders.sql": "{{ config(materialized='table') }}" + ORDERS.format(rows=GOOD),
        "models/a_view.sql": "select 1 as id",
    }
    hooks = {"on-run-end": ["{{ lakebed.default_checks(results) }}"]}
    made = DbtProject(tmp_path, files, vars=AS_OF, config=hooks)
    made.run("run")
    return made


def change(project: DbtProject, sql: str, config: str = "") -> None:
    head = "{{ config(materialized='table'" + config + ") }}"
    project.write("models/orders.sql", head + sql)


def test_a_table_without_yaml_is_checked_once_a_run(project: DbtProject) -> None:
    project.run("run")
    assert project.query(WRONG) == []
    checks = (
        "select table_name, check_name, count(*) from ops.table_checks group by all order by all"
    )
    assert project.query(checks) == [
        ("orders", name, 2) for name in ("completeness", "freshness", "schema", "volume")
    ]
    assert project.query("select distinct row_count, event_column from ops.table_profiles") == [
        (20, "sold_at")
    ]


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        (f"select id, name from ({ORDERS.format(rows=GOOD)})", ("schema", "", "warn")),
        (
            f"select cast(id as varchar) as id, name, sold_at from ({ORDERS.format(rows=GOOD)})",
            ("schema", "", "warn"),
        ),
        (
            f"select id, cast(null as varchar) as name, sold_at from ({ORDERS.format(rows=GOOD)})",
            ("completeness", "name", "fail"),
        ),
        (f"select * from ({ORDERS.format(rows=GOOD)}) where id < 3", ("volume", "", "warn")),
    ],
    ids=["column dropped", "type changed", "all null", "volume collapsed"],
)
def test_what_changed_is_found(project: DbtProject, sql: str, found: tuple[str, str, str]) -> None:
    change(project, sql)
    result = project.run("run")
    assert project.query(WRONG) == [("orders", *found)]
    assert f"{found[2]} main.orders {found[0]}" in result.log


def test_an_emptied_table_fails_and_may_stop_the_run(project: DbtProject) -> None:
    change(project, f"select * from ({ORDERS.format(rows=GOOD)}) where false")
    with pytest.raises(AssertionError, match="default checks failed"):
        project.run("run", "--vars", "{lakebed_default_checks: error, as_of: 2024-01-07 12:00:00}")
    assert ("orders", "completeness", "", "fail") in project.query(WRONG)


def test_stale_data_fails_where_freshness_is_promised(project: DbtProject) -> None:
    sql = ORDERS.format(rows=GOOD)
    change(project, sql, ", meta={'freshness_hours': 48}")
    project.run("run")
    assert project.query(WRONG) == []
    change(project, sql, ", meta={'freshness_hours': 12}")
    project.run("run")
    assert project.query(WRONG) == [("orders", "freshness", "sold_at", "fail")]


def test_a_table_can_opt_out_and_the_whole_be_switched_off(project: DbtProject) -> None:
    change(project, ORDERS.format(rows=GOOD), ", meta={'default_checks': false}")
    project.run("run")
    project.run("run", "--vars", "{lakebed_default_checks: 'off'}")
    assert project.query("select count(*) from ops.table_profiles") == [(1,)]


def test_what_stays_wrong_is_found_again(project: DbtProject) -> None:
    rows = ORDERS.format(rows=GOOD)
    change(project, f"select id, cast(null as varchar) as name, sold_at from ({rows})")
    project.run("run")
    project.run("run")
    assert project.query(WRONG) == [("orders", "completeness", "name", "fail")] * 2


def test_a_null_in_a_column_declared_not_null_fails(project: DbtProject) -> None:
    yaml = """
    models:
      - name: orders
        columns:
          - name: name
            constraints: [{type: not_null}]
    """
    project.write("models/orders.yml", dedent(yaml))
    rows = ORDERS.format(rows=GOOD)
    project.run("run")
    assert project.query(WRONG) == []
    change(project, f"select id, nullif(name, 'n3') as name, sold_at from ({rows})")
    project.run("run")
    assert project.query(WRONG) == [("orders", "completeness", "name", "fail")]


def test_two_hooks_check_a_run_once(tmp_path: Path) -> None:
    files = {"models/one.sql": "{{ config(materialized='table') }} select 1 as id"}
    hooks = {"on-run-end": ["{{ lakebed.default_checks(results) }}"] * 2}
    project = DbtProject(tmp_path, files, vars=AS_OF, config=hooks)
    project.run("run")
    assert project.query("select count(*) from ops.table_profiles") == [(1,)]
    assert project.query("select count(*) from ops.table_checks") == [(4,)]
