"""A day's changes into the history of a table: `scd2_incremental` from its log against dbt's own
snapshot of it."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from benchmarks.measure import REPO, Result, compared

sys.path.insert(0, str(REPO / "python" / "tests"))
from harness import UPSERT_STRATEGY, DbtProject

KEYS, SHARE, DAYS = 10_000_000, 100, 3
FILES = {
    "macros/strategy.sql": UPSERT_STRATEGY,
    "models/sources.yml": """
sources:
- {name: app, schema: app, tables: [{name: rows}, {name: log}]}
""",
    "models/dimension.sql": """
{{ config(materialized='incremental', incremental_strategy='upsert', unique_key='version_key',
    pre_hook="{{ lakebed.advance_position(['log']) }}",
    meta={'upsert': {'version': '_batch_id', 'delete_flag': '_is_deleted', 'delete': 'hard',
                     'on_equal': 'replace'}}) }}
{{ lakebed.scd2_incremental(source('app', 'log'), 'id', ['name', 'amount'], 'updated_at') }}
""",
    "snapshots/snapshots.yml": """
snapshots:
- name: by_timestamp
  relation: source('app', 'rows')
  config: {unique_key: id, strategy: timestamp, updated_at: updated_at}
- name: by_check
  relation: source('app', 'rows')
  config: {unique_key: id, strategy: check, check_cols: [name, amount], updated_at: updated_at}
""",
}
VARIANTS = {
    "lakebed.scd2_incremental": ("run", "dimension", "valid_from"),
    "dbt snapshot, timestamp": ("snapshot", "by_timestamp", "dbt_valid_from"),
    "dbt snapshot, check": ("snapshot", "by_check", "dbt_valid_from"),
}


def rows(keys: int, day: int) -> str:
    """The table's rows that change on a day, all of them on day 0."""
    return f"""
        select id, 'name ' || (id % 1000 + {day}) as name, hash(id + {day}) % 100000 as amount,
            timestamp '2024-01-01' + interval ({day}) day as updated_at
        from range({keys}) as r (id)
        where {day} = 0 or id % {SHARE} = {day}"""


def measure(home: Path, keys: int = KEYS) -> Result:
    hooks = {"on-run-start": ["{{ lakebed.create_positions() }}"]}
    project = DbtProject(home / "project", FILES, config=hooks)

    def query(*statements: str) -> list[tuple[object, ...]]:
        with project.connect() as connection:
            for statement in statements:
                connection.execute(statement)
            return connection.fetchall()

    query(
        "create schema app",
        f"create table app.rows as {rows(keys, 0)}",
        "create table app.log as select *, 0::bigint as _batch_id from app.rows",
    )
    for command, what, _ in VARIANTS.values():
        project.run(command, "--select", what)
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for day in range(1, DAYS + 1):
        query(
            f"insert into app.log select *, {day} from ({rows(keys, day)})",
            "update app.rows set name = c.name, amount = c.amount, updated_at = c.updated_at"
            f" from ({rows(keys, day)}) as c where rows.id = c.id",
        )
        for name in [*VARIANTS][day % 3 :] + [*VARIANTS][: day % 3]:
            command, what, _ = VARIANTS[name]
            start = time.perf_counter()
            project.run(command, "--select", what)
            seconds[name].append(round(time.perf_counter() - start, 2))
    histories = {
        str(query(f"select count(*), sum(hash(id, name, amount, {since})::hugeint) from {what}"))
        for _, what, since in VARIANTS.values()
    }
    assert len(histories) == 1, histories
    question = f"A day that changed 1 % of {keys:,} rows, into their history"
    return compared("scd2", question, seconds)
