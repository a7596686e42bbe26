"""Two builds of one lake on Spark: every row once, and no batch passed over."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from harness import DbtProject
from lakebed.spark.cluster import Cluster

pytestmark = pytest.mark.spark
PROVES = ["pat-idempotent", "pat-exactly-once"]

FILES = {
    "macros/wait.sql": """
{#- Holds up a build at the place that it names, until a row is in the table `doors`. -#}
{% macro wait(place) %}
    {%- if execute and var('wait', '') == place -%}
        {%- set door = {'open': false} -%}
        {%- for _ in range(500) if not door.open -%}
            {%- do door.update(open=run_query('select 1 from ' ~ schema ~ '.doors').rows) -%}
        {%- endfor -%}
    {%- endif -%}
{% endmacro %}
""",
    "models/feed.sql": """
{{ config(materialized='view') }}
select explode(sequence(1L, cast({{ var('batches') }} as bigint))) as _batch_id
""",
    "models/bronze_lines.sql": """
{{ config(materialized='incremental', incremental_strategy='append') }}
select
    _batch_id,
    java_method('java.lang.Thread', 'sleep', cast({{ var('sleep', 0) }} as bigint)) as slept
from {{ ref('feed') }}
{% if is_incremental() %}
where _batch_id = {{ var('batches') }} -- like a Python model, it has looked at the table before
{% endif %}
""",
    "models/silver_lines.sql": """
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook=['{{ lakebed.advance_position() }}', "{{ wait('before') }}"],
    post_hook=["{{ wait('after') }}", '{{ lakebed.settle_position() }}'],
) }}
select _batch_id from {{ ref('bronze_lines') }}
where {{ lakebed.new_batches(ref('bronze_lines')) }}
""",
}


@pytest.fixture
def two(cluster: Cluster, tmp_path: Path) -> tuple[DbtProject, DbtProject]:
    """Two checkouts of one project, on one lake."""
    own = {"batches": 1, "lakebed_ops_schema": f"ops_{uuid.uuid4().hex[:12]}"}
    config = {"on-run-start": ["{{ lakebed.create_positions() }}"]}
    first, second = (
        DbtProject(tmp_path / name, FILES, own, config, cluster) for name in ("a", "b")
    )
    second.schema = first.schema
    first.ops = own["lakebed_ops_schema"]
    second.write("profiles.yml", (first.folder / "profiles.yml").read_text())
    first.run("run")
    return first, second


def batches(project: DbtProject, table: str) -> list[int]:
    return [row[0] for row in project.query(f"select _batch_id from {table} order by 1")]


def run(select: str, batches: int, **values: object) -> tuple[str, ...]:
    return ("run", "--select", select, "--vars", json.dumps({"batches": batches, **values}))


def test_a_batch_that_two_builds_load_is_there_once(two: tuple[DbtProject, DbtProject]) -> None:
    """Their slow statements overlap: one loads the batch, the other conflicts or has none."""
    two[0].run(*run("feed", 2))
    with ThreadPoolExecutor() as pool:
        runs = list(
            pool.map(
                lambda project: project.run(*run("bronze_lines", 2, sleep=8000), check=False), two
            )
        )
    assert batches(two[0], "bronze_lines") == [1, 2]
    assert 0 in [run.code for run in runs]
    for done in runs:
        assert done.code == 0 or "oncurrent" in done.log

    two[0].run(*run("*", 3))
    assert batches(two[0], "silver_lines") == [1, 2, 3]


def test_a_build_settles_only_what_it_has_read(two: tuple[DbtProject, DbtProject]) -> None:
    """The first has read batch 2; the second, which is killed, has announced batch 3."""
    first, second = two
    position = f"select previous_batch, batch from {first.ops}.positions"
    first.query("create table doors (open boolean) using delta")
    first.run(*run("feed bronze_lines", 2))
    slow = first.start(*run("silver_lines", 2, wait="after"))
    until(lambda: batches(first, "silver_lines") == [1, 2])

    second.run(*run("feed bronze_lines", 3))
    lost = second.start(*run("silver_lines", 3, wait="before"))
    until(lambda: first.query(position) == [(1, 3)])
    os.killpg(lost.pid, signal.SIGKILL)
    lost.communicate()

    assert slow.poll() is None, "it did not wait"
    first.query("insert into doors values (true)")
    slow.communicate()
    assert slow.returncode == 0
    assert first.query(position) == [(1, 3)]

    first.run(*run("silver_lines", 3))
    assert batches(first, "silver_lines") == [1, 2, 3]
    assert first.query(position) == [(3, 3)]


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.5)
