"""Watermarks, and what becomes of late rows: against a brute-force oracle, whatever is killed.

One project has many topics, each an arrival order of its own, made at random: each is a case. All
have the same times, so that windows and watermarks mix.
"""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from harness import DbtProject, Run
from lakebed.spark.cluster import Cluster

PROVES = ["pat-watermarking", "pat-late-arrival-handling", "pat-batch-microbatch-continuum"]

pytestmark = pytest.mark.timeout(1800)
START = datetime(2024, 2, 29, 22, 40)
DELAY, IDLE = timedelta(minutes=10), timedelta(hours=1)
BATCHES = 3
DISPATCH = {"macro_namespace": "dbt", "search_order": ["lakebed_test", "lakebed", "dbt"]}


class Arrival(NamedTuple):
    topic: str
    partition: int
    offset: int
    batch: int
    event_id: str
    event_time: datetime
    amount: int


def arrivals(seed: int, topics: int = 25, events: int = 50) -> list[Arrival]:
    """Disorder within the bound and beyond, exactly at it, duplicates, ties, idle partitions."""
    dice = random.Random(seed)
    found: list[Arrival] = []
    for number in range(topics):
        topic, waiting = f"topic_{number}", []
        moment = START + timedelta(minutes=dice.uniform(0, 20))
        for event in range(events):
            moment += timedelta(microseconds=dice.choice([0, 1, 10**6, dice.randrange(6 * 10**8)]))
            held_up = dice.choice(
                [*[timedelta(0)] * 5, DELAY, timedelta(minutes=dice.uniform(0, 10)),
                 timedelta(minutes=dice.uniform(10, 120))]
            )  # fmt: skip
            row = (f"{topic}-{event}", moment, dice.randrange(100))
            waiting += [(moment + held_up + timedelta(minutes=5) * n, row)
                        for n in range(dice.choice([1, 1, 1, 1, 2]))]  # fmt: skip
        waiting.sort()
        # About the same times for all topics, as it is when one process reads them all.
        ends = [START + timedelta(minutes=dice.uniform(0, 5) + n) for n in (75, 105)]
        idle = dice.random() < 0.3
        offsets: Counter[int] = Counter()
        for place, (at, row) in enumerate(waiting):
            # A duplicate comes to the same partition: that is what keys are for.
            partition = int(row[0].rpartition("-")[2]) % 2
            if idle and partition == 1 and place > 20:
                continue
            batch = 1 + sum(at >= end for end in ends)
            found.append(Arrival(topic, partition, offsets[partition], batch, *row))
            offsets[partition] += 1
    # One that was idle comes back: by its own partition it is not late, and it holds all up again.
    newest = max(row.event_time for row in found)
    found.append(Arrival("idle", 0, 0, 1, "idle-0", START, 7))
    back = newest - IDLE + timedelta(seconds=1)
    found.append(Arrival("idle", 0, 1, BATCHES + 1, "idle-1", back, 7))
    return found


FILES = {
    "macros/die.sql": """
{% macro die(where) %}
    {%- if execute and env_var('DIE_AT', '') == where -%}
        {{ exceptions.raise_compiler_error('It died at ' ~ where) }}
    {%- endif -%}
{% endmacro %}
""",
    "models/bronze_clicks.sql": """
{{ config(materialized='view') }}
select * from {{ target.schema }}.arrived
""",
    "models/silver_clicks.sql": """
{%- set bronze = ref('bronze_clicks') -%}
with fresh as (select * from {{ bronze }} where {{ lakebed.new_batches(bronze) }}),
seen as ({{ lakebed.with_seen_until('fresh') }}),
first_received as (
    {{ lakebed.deduplicate('seen', ['event_id', 'event_time'], '_batch_id, _offset') }}
)
{{ lakebed.rows_not_held('first_received', ['event_id', 'event_time'], event_time='event_time') }}
""",
    **{
        f"models/minutes_{late}.sql": """
{%- set clicks = ref('silver_clicks') -%}
select
    {{ lakebed.start_of_datepart('minute', 'event_time') }} as minute_start_at,
    count(*) as events,
    cast(sum(amount) as bigint) as amount
from {{ clicks }}
where {{ lakebed.taken_rows() }} and {{ lakebed.touched_windows(clicks, 'event_time', 'minute') }}
group by 1
"""
        for late in ("update", "drop", "side_table")
    },
    "models/late_clicks.sql": """
{{ lakebed.late_rows(ref('silver_clicks'), 'minutes_side_table') }}
""",
    "models/hours_reprocess.sql": """
select
    {{ lakebed.start_of_datepart('hour', 'event_time') }} as hour_start_at,
    count(*) as events,
    cast(sum(amount) as bigint) as amount
from {{ ref('silver_clicks') }}
group by 1
""",
}


def yml() -> str:
    watermark = {"delay": "10 minutes", "idle": "1 hour"}
    after = ["{{ die(this.identifier) }}"]
    models: list[dict[str, Any]] = []

    def model(name: str, late: str | None, of: str | None = "'silver_clicks'", **more: Any) -> None:
        parent = "['silver_clicks']" if of else ""
        marks = [f"{{{{ lakebed.advance_watermark({of or ''}) }}}}"] if late else []
        settings = {
            "materialized": "incremental",
            "incremental_strategy": "append",
            "pre_hook": f"{{{{ lakebed.advance_position({parent}) }}}}",
            "post_hook": [*after, *marks],
            **({"meta": {"watermark": {**watermark, "late": late}}} if late else {}),
            **more,
        }
        models.append({"name": name, "config": settings})

    model("silver_clicks", "update", None, event_time="event_time")
    for late in ("update", "drop", "side_table"):
        model(
            f"minutes_{late}",
            late,
            incremental_strategy="delete+insert",
            unique_key="minute_start_at",
        )
    model("late_clicks", None)
    model(
        "hours_reprocess",
        "reprocess",
        incremental_strategy="microbatch",
        event_time="hour_start_at",
        batch_size="hour",
        begin="2024-02-29T22:00:00",
        pre_hook=[],
        full_refresh=False,
    )
    return json.dumps({"version": 2, "models": models})


class Project(DbtProject):
    def __init__(self, folder: Path, rows: list[Arrival], cluster: Cluster | None = None) -> None:
        self.ops = f"ops_{folder.name}_{random.randrange(10**9)}" if cluster else "ops"
        types = {"_topic_partition": "int", "_offset": "bigint", "_batch_id": "bigint",
                 "event_time": "timestamp", "amount": "int"}  # fmt: skip
        header = "_topic,_topic_partition,_offset,_batch_id,event_id,event_time,amount"
        lines = [",".join(map(str, row)) for row in rows]
        super().__init__(
            folder,
            {
                **FILES,
                "models/m.yml": yml(),
                "seeds/arrivals.csv": "\n".join([header, *lines]) + "\n",
            },
            vars={"lakebed_ops_schema": self.ops},
            config={
                "on-run-start": ["{{ lakebed.create_positions() }}",
                                 "{{ lakebed.create_watermarks() }}"],
                "on-run-end": [
                    "{{ lakebed.settle_positions(results) }}",
                    "{{ lakebed.settle_late_spans(results) }}",
                ],
                "seeds": {"+column_types": types},
                "dispatch": [DISPATCH],
            },
            cluster=cluster,
        )  # fmt: skip

    def land(self, batch: int) -> None:
        exists = "create table if not exists arrived"
        using = " using delta" if self.cluster else ""
        self.query(f"{exists}{using} as select * from arrivals where false")
        self.query(f"insert into arrived select * from arrivals where _batch_id = {batch}")

    def build(self, span: tuple[datetime, datetime], die: str = "") -> Run:
        start, end = (str(moment)[:19] for moment in span)
        command = ("run", "--event-time-start", start, "--event-time-end", end)
        return self.run(*command, check=not die, env={"DIE_AT": die})

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        found = self.query(sql.replace("ops.", f"{self.ops}."))
        return sorted(tuple(row) for row in found)


class Truth:
    """What must be there after the batches up to `upto`, found the long way."""

    def __init__(self, rows: list[Arrival], upto: int) -> None:
        self.seen: dict[tuple[str, int], datetime] = {}
        self.silver: dict[str, tuple[Arrival, datetime | None]] = {}
        for row in sorted(rows, key=lambda row: (row.batch, row.offset)):
            if row.batch > upto:
                continue
            before = self.seen.get((row.topic, row.partition))
            self.silver.setdefault(row.event_id, (row, before))
            self.seen[row.topic, row.partition] = max(before or row.event_time, row.event_time)

    def late(self) -> list[tuple[Arrival, timedelta]]:
        return [
            (row, before - DELAY - row.event_time)
            for row, before in self.silver.values()
            if before is not None and row.event_time < before - DELAY
        ]

    def windows(self, part: str, without: set[str]) -> list[tuple[datetime, int, int]]:
        found: dict[datetime, list[int]] = defaultdict(lambda: [0, 0])
        for row, _ in self.silver.values():
            if row.event_id not in without:
                start = row.event_time.replace(second=0, microsecond=0)
                start = start.replace(minute=0) if part == "hour" else start
                found[start][0] += 1
                found[start][1] += row.amount
        return sorted((start, *both) for start, both in found.items())

    def complete(self) -> datetime:
        """The watermark of all partitions that are not idle."""
        newest = max(self.seen.values())
        return min(seen for seen in self.seen.values() if seen >= newest - IDLE) - DELAY


def same(project: Project, truth: Truth, watermark: datetime) -> None:
    late = truth.late()
    names = {row.event_id for row, _ in late}
    assert project.rows("select event_id, event_time, _seen_until, _batch_id from silver_clicks"
                        " where _seen_until is not null") == sorted(
        (row.event_id, row.event_time, before, row.batch)
        for row, before in truth.silver.values() if before is not None
    )  # fmt: skip
    assert project.rows("select count(*) from silver_clicks") == [(len(truth.silver),)]
    for policy in ("update", "drop", "side_table"):
        without = set() if policy == "update" else names
        found = project.rows(f"select * from minutes_{policy}")
        assert found == truth.windows("minute", without), policy
    assert project.rows("select event_id, late_micros from late_clicks") == sorted(
        (row.event_id, by // timedelta(microseconds=1)) for row, by in late
    )
    for model in ("silver_clicks", "minutes_update", "minutes_drop", "hours_reprocess"):
        where = f"from ops.watermarks where model = '{model}'"
        assert project.rows(
            f"select source_partition, seen_until, watermark {where} and source_partition != '*'"
        ) == sorted((f"{t}/{p}", seen, seen - DELAY) for (t, p), seen in truth.seen.items())
        assert project.rows(
            f"select seen_until, watermark, late_rows {where} and source_partition = '*'"
        ) == [(max(truth.seen.values()), watermark, len(late))]
        assert project.rows(
            f"select sum(late_rows) {where} and source_partition != '*'"
        ) == [(len(late),)]  # fmt: skip


def hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)


@pytest.mark.parametrize(
    "on", ["duckdb", pytest.param("spark", marks=[pytest.mark.spark, pytest.mark.soak])]
)
def test_windows_are_right_however_events_come(
    request: pytest.FixtureRequest, tmp_path: Path, on: str
) -> None:
    """A build dies after silver's rows and before its watermark; on DuckDB that undoes both.

    Spark takes eight minutes for its hundred merges.
    """
    cluster: Cluster | None = request.getfixturevalue("cluster") if on == "spark" else None
    rows = arrivals(11)
    project = Project(tmp_path / "p", rows, cluster)
    project.run("seed")
    end = hour(max(row.event_time for row in rows)) + timedelta(hours=1)
    watermark = datetime.min
    # Late rows there are, and rows exactly at the bound, which are not late.
    assert 50 < len(Truth(rows, BATCHES).late()) < len(rows) / 2
    started = hour(START)
    for upto in range(1, BATCHES + 1):
        truth = Truth(rows, upto)
        project.land(upto)
        if upto == 2:
            died = project.build((started, end), die="silver_clicks")
            assert "It died at silver_clicks" in died.log
            continue  # the next one catches up with two batches
        if upto == 3:
            died = project.build((started, end), die="minutes_update")
            assert "It died at minutes_update" in died.log
        project.build((started, end))
        # The microbatch model runs the last hours; older ones change by late rows only.
        started = hour(max(truth.seen.values()) - DELAY)
        # It is the watermark of a build that ended, and does not go back.
        watermark = max(watermark, truth.complete())
        same(project, truth, watermark)

    # What the microbatch model lacks are late rows, of spans that are noted until they are run.
    noted = {start for (start,) in project.rows("select starts_at from ops.late_spans")}
    assert noted < {hour(row.event_time) for row, _ in truth.late()}  # later ones were run since
    found = set(project.rows("select * from hours_reprocess"))
    wrong = {row[0] for row in set(truth.windows("hour", set())) ^ found}
    assert wrong
    assert wrong <= noted

    project.land(BATCHES + 1)
    project.build((min(wrong), end))
    truth = Truth(rows, BATCHES + 1)
    assert truth.complete() < watermark
    same(project, truth, watermark)
    assert project.rows("select * from hours_reprocess") == truth.windows("hour", set())
    assert project.rows("select * from ops.late_spans") == []


def test_mistakes_are_said_in_a_line(tmp_path: Path) -> None:
    mistakes = {
        "no_policy": ({"delay": "10 minutes", "late": "ignore"}, "not 'ignore'"),
        "no_unit": ({"delay": 600}, "30 seconds, 10 minutes, 2 hours or 1 day, not '600'"),
        "no_delay": ({"late": "drop"}, "meta.watermark.delay of 'no_delay' is such as"),
        "no_setting": ({"delay": "1 hour", "lateness": 1}, "no other setting there than column"),
        "no_batches": ({"delay": "1 hour", "late": "reprocess"}, "is for microbatch models"),
        "no_parent": ({"delay": "1 hour"}, "must name a parent of the model; it has"),
    }
    hook = "{{ lakebed.advance_watermark('silver_clicks') }}"
    models = [
        {"name": name, "config": {"meta": {"watermark": meta}, "post_hook": hook}}
        for name, (meta, _) in mistakes.items()
    ]
    sql = "{{ config(materialized='table') }} select 1 as id"
    project = DbtProject(
        tmp_path / "p",
        {f"models/{name}.sql": sql for name in mistakes}
        | {"models/m.yml": json.dumps({"version": 2, "models": models})},
    )
    nodes = project.run("run", check=False).nodes
    for name, (_, message) in mistakes.items():
        assert message in (nodes[name].message or ""), nodes[name]
