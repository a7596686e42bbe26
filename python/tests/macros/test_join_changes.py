"""join_changes: a table that follows two others, whatever came in which order, against a loop."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness import POSITIONS, UPSERT_STRATEGY, DbtProject
from lakebed.spark.cluster import Cluster

PROVES = ["pat-change-data-joins"]

BATCHES = 5
#: Batches of both sides are numbered apart, as those of two streams are.
NUMBERED = {"orders": 1, "plans": 1000}
Row = tuple[Any, ...]


@dataclass(frozen=True)
class Change:
    batch: int
    position: int
    op: str
    #: id, what to join on, a value; None for a truncate.
    row: Row | None

    def sql(self, side: str) -> str:
        values = self.row or (None, None, None)
        return (
            f"({self.batch * NUMBERED[side]}, '{self.position:06}', '{self.op}',"
            f" {str(self.op in 'dt').lower()}, {', '.join(literal(value) for value in values)})"
        )


def literal(value: Any) -> str:
    if value is None:
        return "null"
    return f"'{value}'" if isinstance(value, str) else str(value)


def changes(seed: int, ids: int, others: int) -> list[Change]:
    """The log of a table: rows come, join others, go and come back, all are truncated;
    in batches at random, some of it twice."""
    dice = random.Random(seed)
    held: dict[int, Row] = {}
    log: list[tuple[int, str, Row | None]] = []
    for position in range(1, 220):
        key = dice.randrange(ids)
        row = (key, dice.choice([*range(others), None]), f"é{dice.randrange(9)}")
        if dice.random() < 0.012:
            held.clear()
            log.append((position, "t", None))
        elif key in held and dice.random() < 0.4:
            log.append((position, "d", held.pop(key)))  # of a delete, what the row was
        else:
            log.append((position, "u" if key in held else "c", row))
            held[key] = row
    # Mostly in order: each batch must see rows move, not only the last.
    found = []
    for position, op, row in log:
        batch = 1 + position * BATCHES // 221
        for late in {0, dice.choice([0, 0, 0, 1, 2])}:
            found.append(Change(min(BATCHES, batch + late), position, op, row))
    assert {change.op for change in found} == set("cudt")
    return found


def now(log: list[Change], batch: int) -> list[Row]:
    """The rows of a table, as far as its changes came."""
    newest: dict[int, Change] = {}
    truncated = 0
    for change in log:
        if change.batch > batch:
            continue
        if change.row is None:
            truncated = max(truncated, change.position)
        elif change.row[0] not in newest or newest[change.row[0]].position < change.position:
            newest[change.row[0]] = change
    return [
        change.row
        for change in newest.values()
        if change.row and change.op != "d" and change.position > truncated
    ]


LOGS = {"orders": changes(5, 30, 8), "plans": changes(6, 8, 8)}
HELD = """
{{{{ config(materialized='incremental', incremental_strategy='upsert', unique_key='{key}',
    meta={{'upsert': {{'version': '_position', 'delete_flag': '_is_deleted'}}}}) }}}}
with changes as (
    select * from {{{{ ref('{side}_log') }}}}
    where _batch_id between {{{{ var('first') }}}} * {number} and {{{{ var('last') }}}} * {number}
)
{{{{ lakebed.upsert_source('changes') }}}}
"""
JOINED = """
{{{{ config(materialized='incremental', incremental_strategy='upsert', unique_key={key},
    pre_hook="{{{{ lakebed.advance_position(['orders_held', 'plans_held']) }}}}",
    meta={{'upsert': {{'version': '_batch_id', 'delete_flag': '_is_deleted', 'delete': 'hard',
                       'on_equal': 'replace'}}}}) }}}}
{{{{ lakebed.join_changes(ref('orders_held'), ref('plans_held'), {on}, 'order_id', 'plan_id',
    ['plan', 'amount'], ['code as plan_code', 'name'], how='{how}') }}}}
"""
ONE, MANY = "{'plan': 'plan_id'}", "{'plan': 'code'}"
MODELS = {
    "one_inner": (["order_id"], ONE, "inner"),
    "one_left": (["order_id"], ONE, "left"),
    "many_inner": (["order_id", "plan_id"], MANY, "inner"),
    "many_left": (["order_id", "plan_id"], MANY, "left"),
}
COLUMNS = {"orders": ("order_id", "plan", "amount"), "plans": ("plan_id", "code", "name")}


def project(folder: Path, engine: Cluster | None, models: list[str]) -> DbtProject:
    files = {"macros/strategy.sql": UPSERT_STRATEGY}
    for side, log in LOGS.items():
        names = ", ".join(("_batch_id", "_position", "_op", "_is_deleted", *COLUMNS[side]))
        files[f"models/{side}_log.sql"] = (
            "{{ config(materialized='table') }}\n"
            f"select * from (values {', '.join(change.sql(side) for change in log)})"
            f" as given ({names})"
        )
        files[f"models/{side}_held.sql"] = HELD.format(
            key=COLUMNS[side][0], side=side, number=NUMBERED[side]
        )
    for name in models:
        key, on, how = MODELS[name]
        files[f"models/{name}.sql"] = JOINED.format(key=key, on=on, how=how)
    ops = {"lakebed_ops_schema": f"ops_{random.randrange(10**9)}"}
    return DbtProject(folder, files, vars=ops, config=POSITIONS, cluster=engine)


def expected(name: str, batch: int) -> list[Row]:
    key, on, how = MODELS[name]
    found = []
    for order, plan, amount in now(LOGS["orders"], batch):
        matches = [
            row
            for row in now(LOGS["plans"], batch)
            if plan is not None and row[0 if on == ONE else 1] == plan
        ]
        for plan_id, code, title in matches or [(None, None, None)] * (how == "left"):
            found.append((order, *([plan_id] if len(key) == 2 else []), plan, amount, code, title))
    return sorted(found, key=repr)


def test_the_join_follows_both_sides(
    tmp_path_factory: pytest.TempPathFactory, engine: Cluster | None
) -> None:
    # Spark takes seconds for each model; the inner joins differ by a word.
    models = [name for name in MODELS if not engine or "left" in name]
    made = project(tmp_path_factory.mktemp("joined"), engine, models)
    seen = []
    for first, last in [(1, 3), (4, 5)] if engine else [(n, n) for n in range(1, 6)]:
        everything = [] if first == 1 else ["--exclude", "orders_log", "plans_log"]
        made.run("run", *everything, "--vars", json.dumps({"first": first, "last": last}))
        for name in models:
            columns, rows = made.table(f"select * from {name}")
            assert "_is_deleted" in columns
            kept = len(columns) - 2
            assert columns[kept:] == ["_batch_id", "_is_deleted"]
            assert not any(row[-1] for row in rows)
            assert sorted((row[:kept] for row in rows), key=repr) == expected(name, last), name
            seen.append(len(rows))
    assert min(seen) < max(seen)
    if engine:
        return
    # Nothing new: nothing is joined.
    made.run("run", "--select", *models)
    made.run("compile", "--select", *models)
    for name in models:
        compiled = made.compiled(f"models/{name}.sql")
        assert made.query(f"select count(*) from ({compiled}) as joined") == [(0,)]


def test_wrong_arguments_are_refused(tmp_path: Path) -> None:
    call = "{{{{ lakebed.join_changes(ref('a'), ref('b'), {}) }}}}"
    a = "select 1 as id, 1 as _batch_id, 'c' as _op, false as _is_deleted, '1' as _position"
    for number, (arguments, message) in enumerate(
        [
            ("'id', 'id', 'id', [], [], how='full'", "not 'full'"),
            ("[], 'id', 'id', [], []", "needs columns to join on"),
            ("'id', 'id', 'id', ['name'], ['name']", "a column twice: id, name, name"),
            ("'code', 'id', 'id', [], []", "a column twice: id, id"),
        ]
    ):
        files = {"models/a.sql": a, "models/b.sql": a, "models/j.sql": call.format(arguments)}
        with pytest.raises(AssertionError) as error:
            DbtProject(tmp_path / str(number), files).run("run")
        assert message in str(error.value)
