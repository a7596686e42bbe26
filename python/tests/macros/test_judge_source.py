"""The circuit breaker of a source's quality, against a loop that judges batch by batch."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from harness import POSITIONS, DbtProject, Run
from lakebed.spark.cluster import Cluster

PROVES = ["pat-circuit-breaker-data-pipelines"]

ROWS, REFUSED = 12, 0.5
SILVER = """
{%- set bronze = ref('bronze_SOURCE') -%}
with checked as (
    {{ lakebed.checked_records(bronze, 'silver_SOURCE', lakebed.new_batches(bronze)) }}
)
select id, _batch_id, _offset from ({{ lakebed.valid_rows('checked') }}) as valid
"""
QUARANTINE = """
{%- set bronze = ref('bronze_SOURCE') -%}
-- depends_on: {{ ref('silver_SOURCE') }}
with checked as (
    {{ lakebed.checked_records(bronze, 'silver_SOURCE', lakebed.new_batches(bronze)) }}
)
select broken_rules, _batch_id, _offset from checked where broken_rules is not null
"""
#: Of two that read bronze for themselves one is built before its source is judged.
OTHER = """
{%- set bronze = ref('bronze_SOURCE') -%}
select _batch_id, _offset from {{ bronze }} where {{ lakebed.new_batches(bronze) }}
"""


@dataclass
class Source:
    """One source, what it has sent, and what its models must have: judged in a loop."""

    name: str
    batches: dict[int, list[bool]] = field(default_factory=dict)
    read: int = 0
    released: int = 0
    halted: int | None = None
    rested: bool = False
    pool: list[bool] = field(default_factory=list)

    def build(self, rested: bool) -> None:
        if self.halted is not None:
            self.rested = self.rested or rested
            newest: list[bool] = []
            for batch in sorted(self.batches, reverse=True):
                if batch > self.halted and len(newest) < ROWS:
                    newest += self.batches[batch]
            if self.rested and len(newest) >= ROWS:
                self.rested = False
                if newest.count(False) <= REFUSED * len(newest):
                    self.halted, self.released = None, max(self.batches)
        else:
            start = None
            for batch in sorted(self.batches):
                if batch <= max(self.read, self.released) or self.halted is not None:
                    continue
                rows = self.batches[batch]
                if len(rows) < ROWS:
                    start, self.pool = start or batch, self.pool + rows
                    if len(self.pool) < ROWS:
                        continue
                    rows, first = self.pool, start
                    self.pool, start = [], None
                else:
                    first = batch
                if rows.count(False) > REFUSED * len(rows):
                    self.halted, self.pool = first, []
        until = max(self.batches, default=0) if self.halted is None else self.halted - 1
        self.read = max(self.read, until)

    def rows(self, good: bool) -> list[tuple[int, int]]:
        return [
            (batch, offset)
            for batch, rows in sorted(self.batches.items())
            for offset, is_good in enumerate(rows)
            if is_good == good and batch <= self.read
        ]


class Project(DbtProject):
    def __init__(self, folder: Path, sources: int, cluster: Cluster | None) -> None:
        self.ops = f"ops_{folder.name}_{random.randrange(10**9)}" if cluster else "ops"
        self.sources = [Source(f"s{number}") for number in range(sources)]
        models: list[dict[str, Any]] = []
        files = {}
        for source in self.sources:
            for layer, text in (("silver", SILVER), ("quarantine", QUARANTINE), ("a", OTHER)):
                name = f"{layer}_{source.name}"
                files[f"models/{name}.sql"] = text.replace("SOURCE", source.name)
                config: dict[str, Any] = {
                    "materialized": "incremental",
                    "incremental_strategy": "append",
                    "pre_hook": "{{ lakebed.advance_position() }}",
                }
                models.append({"name": name, "config": config})
                if layer == "silver":
                    breaker = {"refused": REFUSED, "rows": ROWS, "rest": "1 day"}
                    config["pre_hook"] = ["{{ lakebed.judge_source() }}", config["pre_hook"]]
                    config["post_hook"] = "{{ die(this.identifier) }}"
                    rules = [{"name": "negative", "expression": "id >= 0"}]
                    config["meta"] = {"circuit_breaker": breaker, "rules": rules}
                    column = {"name": "id", "data_type": "bigint"}
                    models[-1]["columns"] = [column | {"constraints": [{"type": "not_null"}]}]
            files[f"models/bronze_{source.name}.sql"] = (
                "{{ config(materialized='view') }}\n"
                f"select * from {{{{ target.schema }}}}.arrived where _topic = '{source.name}'"
            )
        files["macros/die.sql"] = (
            "{% macro die(where) %}{% if execute and env_var('DIE_AT', '') == where %}"
            "{{ exceptions.raise_compiler_error('It died') }}{% endif %}{% endmacro %}"
        )
        files["models/m.yml"] = json.dumps({"version": 2, "models": models})
        super().__init__(
            folder,
            files,
            vars={"lakebed_ops_schema": self.ops},
            config=POSITIONS,
            cluster=cluster,
        )
        self.query(
            "create table arrived (_source string, _topic string, _topic_partition int,"
            " _offset bigint, _key string, _record string, _sent_at timestamp, _batch_id bigint,"
            f" ingested_at timestamp){' using delta' if cluster else ''}"
        )

    def land(self, batches: list[tuple[Source, list[bool]]]) -> None:
        values = []
        for source, rows in batches:
            batch = max(source.batches, default=0) + 1
            source.batches[batch] = rows
            for offset, good in enumerate(rows):
                record = '{"id": 7}' if good else '{"id": "x"}' if offset % 2 else '{"id": -1}'
                values.append(
                    f"('k', '{source.name}', 0, {offset}, null, '{record}', null, {batch}, null)"
                )
        if values:
            self.query(f"insert into arrived values {', '.join(values)}")

    def table(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        return super().table(sql.replace("ops.", f"{self.ops}."))

    def build(self, *more: str, rested: bool = False, die: str = "") -> Run:
        """All have rested, or nobody has; what the sources' models must have by then."""
        if rested:
            self.query("update ops.source_circuits set retry_at = changed_at")
        done = self.run("run", *more, check=not die, env={"DIE_AT": die})
        for source in self.sources:
            if die != f"silver_{source.name}":
                source.build(rested)
        return done

    def check(self) -> None:
        for source in self.sources:
            for layer, good in (("silver", True), ("quarantine", False)):
                rows = self.query(f"select _batch_id, _offset from {layer}_{source.name}")
                assert sorted(map(tuple, rows)) == source.rows(good), (layer, source)
            circuits = self.query(
                "select case when state = 'open' then from_batch end from ops.source_circuits"
                f" where source = 'bronze_{source.name}'"
            )
            assert [halted for (halted,) in circuits] in ([source.halted], []), source
            assert circuits or source.halted is None
            others = [tuple(row) for row in self.query(f"select * from a_{source.name}")]
            assert len(others) == len(set(others))


def some_batches(dice: random.Random) -> list[list[bool]]:
    batches = []
    for _ in range(dice.choice([0, 1, 3, 6, 9])):
        bad = dice.choice([0.0, 0.0, 0.1, 0.4, 0.6])
        size = dice.choice([1, 2, 3, 7, ROWS - 1, ROWS, 30])
        batches.append([dice.random() >= bad for _ in range(size)])
    return batches


def test_halted_and_resumed_as_a_loop_would(tmp_path: Path, engine: Cluster | None) -> None:
    sources, builds = (1, 4) if engine else (5, 7)
    project, dice = Project(tmp_path / "p", sources, engine), random.Random(5)
    first, *others = project.sources
    if not engine:  # Spark's are made by the first build, with rows
        project.run("run", "--empty")  # the tables, without a row
    halts, resumed = 0, 0
    for step in range(builds):
        landed = [(other, rows) for other in others[1:] for rows in some_batches(dice)]
        # One that trickles in is judged over several builds.
        landed += [(other, [True, False, False, False, False]) for other in others[:1]]
        # One source collapses in the middle of a build's batches, and is well two builds later.
        healthy = [True] * 30
        sick = [n % 3 == 0 for n in range(30)]
        script = [[healthy], [healthy, sick, healthy], [sick], [healthy], [healthy]]
        project.land(landed + [(first, rows) for rows in script[step % len(script)]])
        before = {source.name for source in project.sources if source.halted is not None}
        done = project.build(rested=step % 2 == 1)
        after = {source.name for source in project.sources if source.halted is not None}
        halts, resumed = halts + len(after - before), resumed + len(before - after)
        for source in project.sources:
            if source.name in after - before:
                line = f"source bronze_{source.name} is halted from batch {source.halted} on:"
                assert line in done.log
            if source.name in before - after:
                assert f"source bronze_{source.name} flows again" in done.log
        if step == 1:
            assert first.halted == 3
            assert "20 of 30 rows refused: invalid_id 10, negative 10" in done.log
        project.check()
    assert halts > sources / 2
    assert resumed > 0


def test_a_build_that_dies_and_a_full_refresh_and_a_hand(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", 1, None)
    (source,) = project.sources
    good, sick = [True] * 20, [False] * 20
    project.land([(source, good)])
    project.build()
    project.land([(source, good), (source, sick), (source, good)])
    done = project.build(die="silver_s0")
    assert "It died" in done.log
    assert project.query("select * from ops.source_circuits") == []
    project.build()
    project.check()
    assert source.halted == 3
    # What was not read is not read by a full refresh either.
    project.build("--full-refresh")
    project.check()
    assert source.halted == 3

    operation = ("run-operation", "resume_source", "--args")
    wrong = project.run(*operation, "{source: bronze_s1}", check=False)
    assert "no model has a circuit breaker for 'bronze_s1'; there are: bronze_s0" in wrong.log
    done = project.run(*operation, "{source: bronze_s0}")
    assert "bronze_s0 is no longer halted; the next build reads batches 3 to 4" in done.log
    source.halted, source.released = None, 4
    wrong = project.run(*operation, "{source: bronze_s0}", check=False)
    assert "bronze_s0 is not halted" in wrong.log
    project.land([(source, sick)])
    project.build()
    project.check()
    assert (source.read, source.halted) == (4, 5)


@pytest.mark.parametrize(
    ("breaker", "message"),
    [
        ({"refused": 0.5, "rows": 10}, "these three and no other"),
        ({"refused": 2, "rows": 10, "rest": "1 day"}, "between 0 and 1, not '2'"),
        ({"refused": 0.5, "rows": 0, "rest": "1 day"}, "1 or more, not '0'"),
        ({"refused": 0.5, "rows": 9, "rest": "soon"}, "circuit_breaker.rest of 'silver_s0'"),
    ],
)
def test_mistakes_are_said_in_a_line(tmp_path: Path, breaker: dict[str, Any], message: str) -> None:
    project = Project(tmp_path / "p", 1, None)
    models = json.loads((project.folder / "models/m.yml").read_text(encoding="utf-8"))
    models["models"][0]["config"]["meta"]["circuit_breaker"] = breaker
    project.write("models/m.yml", json.dumps(models))
    assert message in project.run("run", check=False).log
