"""What each table format must do: snapshots with hard deletes, microbatches with late rows,
contracts on every run; and that one lake has one format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import DbtProject
from lakebed.errors import UserError
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import format_of_lake

PROVES = [
    "pat-medallion-lakehouse",
    "pat-scd-type2",
    "pat-idempotent",
    "pat-batch-microbatch-continuum",
    "pat-data-contract",
]

DISPATCH = {
    "dispatch": [
        {"macro_namespace": "dbt", "search_order": ["lakebed_test", "lakebed", "dbt"]},
    ],
}


SNAPSHOTS = """
version: 2
snapshots:
  - name: invalidated
    relation: ref('people')
    config:
      {unique_key: id, strategy: timestamp, updated_at: changed_at, hard_deletes: invalidate}
  - name: recorded
    relation: ref('people')
    config:
      {unique_key: id, strategy: check, check_cols: [name], hard_deletes: new_record}
"""


def people(*rows: tuple[int, str, int]) -> str:
    return " union all ".join(
        f"select {key} as id, '{name}' as name, timestamp '2020-01-0{day} 00:00:00' as changed_at"
        for key, name, day in rows
    )


def test_snapshots_with_hard_deletes(lake: Cluster | None, tmp_path: Path) -> None:
    """Three runs: 1 changes; 2 goes, and comes back; 3 stays; 4 is new."""
    project = DbtProject(
        tmp_path / "project",
        {
            "snapshots/snapshots.yml": SNAPSHOTS,
            "models/people.sql": people((1, "a", 1), (2, "b", 1), (3, "c", 1)),
        },
        cluster=lake,
        config=DISPATCH,
    )
    project.run("build")
    if not lake:  # on the others it is the rows that stay in the next builds
        project.run("snapshot")  # nothing new: nothing changes
    project.write("models/people.sql", people((1, "A", 2), (3, "c", 1), (4, "d", 2)))
    project.run("build")
    project.write("models/people.sql", people((1, "A", 2), (2, "b", 3), (3, "c", 1), (4, "d", 2)))
    project.run("build")

    day = "cast({} as date)"
    assert project.query(
        f"select id, name, cast({day.format('dbt_valid_from')} as string),"
        " case when dbt_valid_to is null then 'now'"
        "      when dbt_valid_to > timestamp '2021-01-01 00:00:00' then 'gone'"
        f"      else cast({day.format('dbt_valid_to')} as string) end"
        " from invalidated order by id, dbt_valid_from"
    ) == [
        (1, "a", "2020-01-01", "2020-01-02"),
        (1, "A", "2020-01-02", "now"),
        (2, "b", "2020-01-01", "gone"),
        (2, "b", "2020-01-03", "now"),
        (3, "c", "2020-01-01", "now"),
        (4, "d", "2020-01-02", "now"),
    ]
    rows = project.query(
        "select id, name, dbt_is_deleted, dbt_valid_to is null from recorded"
        " order by id, dbt_valid_from, dbt_is_deleted"
    )
    assert rows == [
        (1, "a", "False", False),
        (1, "A", "False", True),
        (2, "b", "False", False),
        (2, "b", "True", False),
        (2, "b", "False", True),
        (3, "c", "False", True),
        (4, "d", "False", True),
    ]
    # Intervals of a key follow on each other: no gap, no overlap.
    assert project.query(
        "select count(*) from (select dbt_valid_to as ends, lead(dbt_valid_from) over"
        " (partition by id order by dbt_valid_from, dbt_is_deleted) as next_starts from recorded) x"
        " where ends is distinct from next_starts"
    ) == [(0,)]


EVENTS = """
select 1 as id, timestamp '2020-01-01 10:00:00' as happened_at, 'first' as what
union all select 2, timestamp '2020-01-02 10:00:00', 'second'
union all select 3, timestamp '2020-01-03 10:00:00', 'third'
"""
BATCHED = """
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='happened_at',
          batch_size='day', begin='2020-01-01', lookback=1) }}
select * from {{ ref('events') }}
"""
BATCHES_YML = """
version: 2
models:
  - name: events
    config: {event_time: happened_at}
"""


@pytest.mark.soak_on("iceberg")
def test_microbatch_with_late_rows(lake: Cluster | None, tmp_path: Path) -> None:
    """A batch is exchanged: a late row comes in, a row that went goes, other batches stay."""
    project = DbtProject(
        tmp_path / "project",
        {"models/events.sql": EVENTS, "models/batched.sql": BATCHED, "models/m.yml": BATCHES_YML},
        cluster=lake,
        config=DISPATCH,
    )
    span = ("--event-time-start", "2020-01-01", "--event-time-end", "2020-01-04")
    wanted = [(1, "first"), (2, "second"), (3, "third")]
    for _ in range(2):  # again: the same rows
        project.run("run", *span)
        assert project.query("select id, what from batched order by id") == wanted

    # A late row of the 2nd, the 3rd lost its only one; the 1st is not looked at again.
    project.write(
        "models/events.sql",
        "select 1 as id, timestamp '2020-01-01 10:00:00' as happened_at, 'other' as what"
        " union all select 2, timestamp '2020-01-02 10:00:00', 'second'"
        " union all select 4, timestamp '2020-01-02 23:59:59.999999', 'late'"
        " union all select 5, timestamp '2020-01-04 00:00:00', 'next'",
    )
    project.run("run", "--event-time-start", "2020-01-02", "--event-time-end", "2020-01-04")
    wanted = [(1, "first"), (2, "second"), (4, "late")]
    assert project.query("select id, what from batched order by id") == wanted


STRATEGIES = ("append", "merge")
CONTRACT = "version: 2\nmodels:" + "".join(
    f"""
  - name: promised_{strategy}
    config: {{contract: {{enforced: true}}}}
    columns:
      - {{name: id, data_type: int, constraints: [{{type: not_null}}]}}
      - {{name: amount, data_type: int}}"""
    for strategy in STRATEGIES
)
PROMISED = """
{{{{ config(materialized='incremental', incremental_strategy='{strategy}', unique_key='id',
            on_schema_change='append_new_columns') }}}}
select cast({id} as int) as id, cast({amount} as int) as amount
"""


def test_a_contract_on_every_run(lake: Cluster | None, tmp_path: Path) -> None:
    project = DbtProject(
        tmp_path / "project",
        {"models/promised.yml": CONTRACT},
        cluster=lake,
        config=DISPATCH,
    )

    def run(key: Any, amount: Any, broken: bool = False) -> None:
        for strategy in STRATEGIES:
            text = PROMISED.format(strategy=strategy, id=key, amount=amount)
            project.write(f"models/promised_{strategy}.sql", text)
        nodes = project.run("run", check=False).nodes
        for strategy in STRATEGIES:
            node = nodes[f"promised_{strategy}"]
            said = f"{node.status} {node.message}"
            assert said.startswith("error" if broken else "success"), (strategy, said)
            assert not broken or "constraint" in said.lower(), (strategy, said)

    def there() -> list[list[Any]]:
        promised = "select id, amount from promised_{} order by id"
        return [project.query(promised.format(strategy)) for strategy in STRATEGIES]

    run("null", 1, broken=True)
    run(1, "null")
    run("null", 2, broken=True)
    assert there() == [[(1, None)]] * 2
    run(2, 3)
    assert there() == [[(1, None), (2, 3)]] * 2


PYTHON = """
def model(dbt, session):
    dbt.config(materialized="incremental", incremental_strategy="append")
    return dbt.ref("seeded")
"""
FILES = {
    "seeds/seeded.csv": "id,name\n1,x\n2,y\n",
    "models/a_view.sql": (
        "{{ config(materialized='view') }} select *, 1 as one from {{ ref('seeded') }}"
    ),
    "models/a_table.sql": "{{ config(materialized='table') }} select * from {{ ref('a_view') }}",
    "models/merged.sql": """
{{ config(materialized='incremental', incremental_strategy='upsert', unique_key='id',
          meta={'upsert': {'version': 'one'}}) }}
{{ lakebed.upsert_source(ref('a_view')) }}
""",
    "models/framed.py": PYTHON,
}


@pytest.mark.spark
def test_iceberg_tables_of_every_kind(iceberg_cluster: Cluster, tmp_path: Path) -> None:
    """Built twice, and by a full refresh, it is the same."""
    project = DbtProject(tmp_path / "project", FILES, cluster=iceberg_cluster, config=DISPATCH)
    tables = ("seeded", "a_view", "a_table", "merged")
    project.run("build")
    first = {name: project.table_hash(name) for name in tables}
    project.run("build")
    assert {name: project.table_hash(name) for name in tables} == first
    assert project.query("select count(*) from framed") == [(4,)]
    for name in ("seeded", "a_table", "merged", "framed"):
        provider = project.query(f"describe extended {name}")
        assert ("Provider", "iceberg", "") in provider, name

    project.run("build", "--full-refresh")
    assert {name: project.table_hash(name) for name in tables} == first
    assert project.query("select count(*) from framed") == [(2,)]


@pytest.mark.spark
def test_tables_of_streams_that_have_not_run(iceberg_cluster: Cluster, tmp_path: Path) -> None:
    sources = """
sources:
  - name: web
    schema: not_run
    tables: [{name: web__clicks, config: {meta: {stream: true}}}]
"""
    project = DbtProject(
        tmp_path / "project",
        {
            "models/one.sql": "select _topic_partition from {{ source('web', 'web__clicks') }}",
            "models/web.yml": sources,
        },
        cluster=iceberg_cluster,
        config={"on-run-start": ["{{ lakebed.create_stream_tables() }}"]},
    )
    project.run("run")
    provider = project.query("describe extended not_run.web__clicks")
    assert ("Provider", "iceberg", "") in provider


@pytest.mark.spark
def test_a_cluster_of_another_format(iceberg_cluster: Cluster, tmp_path: Path) -> None:
    project = DbtProject(
        tmp_path / "project", {"models/one.sql": "select 1 as id"}, cluster=iceberg_cluster
    )
    for wanted, message in (
        ("delta", "The cluster holds iceberg tables, and the build is"),
        ("orc", "No table format 'orc'"),
    ):
        with pytest.raises(AssertionError, match=message):
            project.run("run", env={"LAKEBED_TABLE_FORMAT": wanted})
    project.run("run")


def test_a_lake_keeps_its_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAKEBED_TABLE_FORMAT", raising=False)
    home = tmp_path / "spark"
    assert format_of_lake(home, "iceberg") == "iceberg"
    assert format_of_lake(home) == "iceberg"
    with pytest.raises(UserError, match="holds iceberg tables, and the build is for delta"):
        format_of_lake(home, "delta")
    old = tmp_path / "old"
    (old / "metastore").mkdir(parents=True)
    with pytest.raises(UserError, match="holds delta tables"):
        format_of_lake(old, "iceberg")
    with pytest.raises(UserError, match="No table format 'orc'"):
        format_of_lake(tmp_path / "new", "orc")
    assert not (tmp_path / "new").exists()
