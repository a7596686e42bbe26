"""Two builds of one lake on Spark: every row once, and no batch passed over."""

from __future__ import annotations

import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from harness import POSITIONS, DbtProject
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
            {%- do run_query("select java_method('java.lang.Thread', 'sleep', 500L)") -%}
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
    post_hook="{{ wait('after') }}",
) }}
select _batch_id from {{ ref('bronze_lines') }}
where {{ lakebed.new_batches(ref('bronze_lines')) }}
""",
}


@pytest.fixture(scope="module")
def two(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DbtProject, DbtProject]:
    """Two checkouts of one project, on one lake: batch 1 is built, and with it the tables."""
    folder = tmp_path_factory.mktemp("two")
    own = {"batches": 1, "lakebed_ops_schema": f"ops_{uuid.uuid4().hex[:12]}"}
    first, second = (
        DbtProject(folder / name, FILES, own, POSITIONS, cluster) for name in ("a", "b")
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
    there = batches(two[0], "bronze_lines")
    new = len(there) + 1
    two[0].run(*run("feed", new))
    with ThreadPoolExecutor() as pool:
        runs = list(
            pool.map(
                lambda project: project.run(*run("bronze_lines", new, sleep=8000), check=False), two
            )
        )
    assert batches(two[0], "bronze_lines") == [*there, new]
    assert 0 in [run.code for run in runs]
    for done in runs:
        assert done.code == 0 or "oncurrent" in done.log

    two[0].run(*run("*", new + 1))
    assert batches(two[0], "silver_lines") == [*there, new, new + 1]


def test_a_build_settles_only_what_it_has_read(two: tuple[DbtProject, DbtProject]) -> None:
    """The first has read a batch; the second, which is killed, has announced the next one."""
    first, second = two
    position = f"select previous_batch, batch from {first.ops}.positions"
    there = batches(first, "silver_lines")
    old = len(there)
    first.query("create table doors (open boolean) using delta")
    first.run(*run("feed bronze_lines", old + 1))
    slow = first.start(*run("silver_lines", old + 1, wait="after"))
    until(lambda: batches(first, "silver_lines") == [*there, old + 1])

    second.run(*run("feed bronze_lines", old + 2))
    lost = second.start(*run("silver_lines", old + 2, wait="before"))
    until(lambda: first.query(position) == [(old, old + 2)])
    os.killpg(lost.pid, signal.SIGKILL)
    lost.communicate()

    assert slow.poll() is None, "it did not wait"
    first.query("insert into doors values (true)")
    slow.communicate()
    assert slow.returncode == 0
    assert first.query(position) == [(old, old + 2)]

    first.run(*run("silver_lines", old + 2))
    assert batches(first, "silver_lines") == [*there, old + 1, old + 2]
    assert first.query(position) == [(old + 2, old + 2)]


def until(holds: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.5)
