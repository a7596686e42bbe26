"""scd2_incremental: built in batches, late and out of order, it is what rebuilding gives."""

from __future__ import annotations

import json
import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from harness import POSITIONS, UPSERT_STRATEGY, DbtProject
from lakebed.spark.cluster import Cluster
from test_scd import START, Change, versions

PROVES = ["pat-scd-type2"]

BATCHES = 4
ARGUMENTS = "['part', 'id'], ['name', 'size'], 'changed_at', order_by=['arrived'], deleted='gone'"
MODELS = {
    "models/rebuilt.sql": f"{{{{ lakebed.scd2_from_changes(ref('log'), {ARGUMENTS}) }}}}",
    "models/dimension.sql": f"""
{{{{ config(materialized='incremental', incremental_strategy='upsert', unique_key='version_key',
    pre_hook="{{{{ lakebed.advance_position(['log']) }}}}",
    meta={{'upsert': {{'version': '_batch_id', 'delete_flag': '_is_deleted', 'delete': 'hard',
                       'on_equal': 'replace'}}}}) }}}}
with logged as (select * from {{{{ ref('log') }}}})
{{{{ lakebed.scd2_incremental('logged', {ARGUMENTS}, source=ref('log')) }}}}""",
}


def log() -> list[tuple[int, Change]]:
    """Batch and change: most keys change in each batch, some late, some twice, at equal times."""
    dice = random.Random(8)
    found = []
    for number in range(160):
        changed_at = START + timedelta(days=dice.randrange(30)) if dice.random() > 0.05 else None
        key = (dice.choice(["a", "漢", None]), dice.choice([*range(5), None]))
        state = (dice.choice(["x", "", None]), dice.choice([1, None]))
        change = (*key, *state, changed_at, dice.random() < 0.2, number)
        for batch in {dice.randint(1, BATCHES), dice.choice([2, BATCHES])}:
            found.append((batch, change))
    # A key that only the first batch knows: no later one touches it.
    found.append((1, ("quiet", 9, "x", 1, START, False, 999)))
    return found


LOG = log()


def value(of: Any) -> str:
    if isinstance(of, datetime):
        return f"timestamp '{of}'"
    return "null" if of is None else str(of).lower() if not isinstance(of, str) else f"'{of}'"


def test_in_batches_it_is_what_rebuilding_gives(tmp_path: Path, engine: Cluster | None) -> None:
    rows = ", ".join(f"({batch}, {', '.join(map(value, change))})" for batch, change in LOG)
    files = {
        **MODELS,
        "macros/strategy.sql": UPSERT_STRATEGY,
        "models/log.sql": "{{ config(materialized='table') }}\n"
        f"select * from (values {rows}) as given"
        " (_batch_id, part, id, name, size, changed_at, gone, arrived)"
        " where _batch_id <= {{ var('batch') }}",
    }
    project = DbtProject(
        tmp_path / "project",
        files,
        vars={"lakebed_ops_schema": f"ops_{random.randrange(10**9)}"},
        config=POSITIONS,
        cluster=engine,
    )
    columns = "part, id, name, size, valid_from, valid_to"
    for batch in [2, BATCHES] if engine else range(1, BATCHES + 1):
        project.run("run", "--vars", json.dumps({"batch": batch}))
        known = [change for of, change in LOG if of <= batch]
        found = project.query(f"select {columns} from dimension")
        assert sorted(found, key=repr) == versions(known)
        both = f"select version_key, is_current, {columns} from"
        assert project.query(f"{both} dimension except {both} rebuilt") == []
    # A key that did not change was never written again.
    quiet = "select _batch_id from dimension where part = 'quiet'"
    assert project.query(quiet) == [(1,)]
    assert project.query("select count(*) from dimension where _is_deleted") == [(0,)]
    if engine:
        return
    project.run("run", "--select", "dimension", "--vars", json.dumps({"batch": BATCHES}))
    project.run("compile", "--select", "dimension", "--vars", json.dumps({"batch": BATCHES}))
    compiled = project.compiled("models/dimension.sql")
    assert project.query(f"select count(*) from ({compiled}) as handed_on") == [(0,)]


def test_a_cte_needs_its_source(tmp_path: Path) -> None:
    sql = "with a as (select 1) {{ lakebed.scd2_incremental('a', 'id', ['name'], 'at') }}"
    with pytest.raises(AssertionError, match="scd2_incremental of the CTE a needs source"):
        DbtProject(tmp_path, {"models/one.sql": sql}).run("run")
