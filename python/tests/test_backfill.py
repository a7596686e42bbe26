"""A bug is mended, months are run anew, the rest is untouched; killed, resumed, undone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import warm
from harness import DbtProject
from hypothesis import given
from hypothesis import strategies as st
from lakebed.backfill import SIZES, floor, later, steps
from lakebed.spark.cluster import Cluster

PROVES = ["pat-replay-backfill", "pat-batch-microbatch-continuum"]

Row = tuple[int, str, int]
DISPATCH = {
    "dispatch": [
        {"macro_namespace": "dbt", "search_order": ["lakebed_test", "lakebed", "dbt"]},
    ],
}
BATCHED = """
{{{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='seen_at',
          batch_size='month', begin='2020-01-01', lookback=1) }}}}
select id, seen_at, {points} as points from {{{{ ref('events') }}}}
"""
YML = """
version: 2
models:
  - name: events
    config: {event_time: seen_at}
"""
#: Two events a month, from January to May; the second on the month's last microsecond.
EVENTS = " union all ".join(
    f"select {month * 10 + n} as id, timestamp '2020-0{month}-{day}' as seen_at"
    for month, last in enumerate((31, 29, 31, 30, 31), 1)
    for n, day in enumerate(("01 00:00:00", f"{last} 23:59:59.999999"))
)
SPAN = ("--start", "2020-02-01", "--end", "2020-05-01")
STEPS = ("backfill", "visits", *SPAN, "--batches", "1")


class Project(DbtProject):
    def start_lakebed(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-u", "-c", "from lakebed.cli import main; main()", *command],
            cwd=self.folder,
            env=self._environment(None),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def lakebed(self, *command: str, code: int = 0) -> str:
        done = warm.run(("lakebed", *command), self.folder, self._environment(None))
        printed = done.stdout + done.stderr
        assert done.returncode == code, printed
        return printed

    def visits(self) -> list[Row]:
        found = self.query(
            "select id, date_format(seen_at, 'yyyy-MM') as month, points from visits order by id"
            if self.cluster
            else "select id, strftime(seen_at, '%Y-%m') as month, points from visits order by id"
        )
        return [(row[0], row[1], row[2]) for row in found]


def visits(folder: Path, cluster: Cluster | None) -> Project:
    """Five months of visits, with a bug in them."""
    project = Project(
        folder,
        {
            "models/events.sql": EVENTS,
            "models/visits.sql": BATCHED.format(points="id * 2"),
            "models/totals.sql": "select sum(points) as points from {{ ref('visits') }}",
            "models/m.yml": YML,
        },
        cluster=cluster,
        config=DISPATCH,
    )
    project.run("run", "--event-time-start", "2020-01-01", "--event-time-end", "2020-06-01")
    assert len(project.visits()) == 10
    return project


@pytest.fixture
def project(lake: Cluster | None, tmp_path: Path) -> Project:
    return visits(tmp_path / "project", lake)


@pytest.fixture
def local(tmp_path: Path) -> Project:
    """Where no engine has a say: a step takes Spark seconds."""
    return visits(tmp_path / "project", None)


def expected(*mended: int) -> list[Row]:
    """The rows when these months were run by the mended model."""
    return [
        (month * 10 + n, f"2020-0{month}", (month * 10 + n) * (1 if month in mended else 2))
        for month in range(1, 6)
        for n in range(2)
    ]


@pytest.mark.soak_on("iceberg")
def test_a_bug_mended_for_three_months(project: Project) -> None:
    project.write("models/visits.sql", BATCHED.format(points="id"))
    if not project.cluster:  # a step takes Spark seconds
        printed = project.lakebed(*STEPS, "--dry-run")
        assert "3 steps" in printed
        assert "2 rows" in printed
        assert project.visits() == expected()

    # One month first, to look at; then killed in the second; then the same command.
    printed = project.lakebed(*STEPS, "--at-most", "1")
    assert "2 rows became 2: 2 gone, 2 new" in printed
    assert project.visits() == expected(2)
    if not project.cluster:
        killed = project.start_lakebed(*STEPS)
        assert killed.stdout is not None
        for line in killed.stdout:
            if line.startswith("2020-03-01"):
                os.killpg(killed.pid, signal.SIGKILL)
        assert killed.wait() == -signal.SIGKILL
        assert project.visits()[:6] == expected(2, 3)[:6]
        assert project.visits()[8:] == expected()[8:]
    printed = project.lakebed(*STEPS)
    done, last = (1, "2020-02-01") if project.cluster else (2, "2020-03-01")
    assert f"3 steps from 2020-02-01 00:00:00 to 2020-05-01 00:00:00, {done} of" in printed
    assert not [line for line in printed.splitlines() if line.startswith(last)]
    assert "6 rows became 6: 6 gone, 6 new" in printed
    assert "dbt build --select totals" in printed
    assert "outside of the span" not in printed
    assert project.visits() == expected(2, 3, 4)
    log = project.query(
        "select event, count(*) as n, cast(sum(rows_new) as bigint) as r from ops.backfills"
        f" where table_schema = '{project.schema}' group by event order by event"
    )
    assert log == [("begun", 1, None), ("finished", 1, 6), ("step", 3, 6)]

    if not project.cluster:
        assert "is finished" in project.lakebed(*STEPS, code=1)
    # A row that came outside of the span meanwhile is not lost by the undoing.
    project.write("models/events.sql", EVENTS.replace("select 51 as id", "select 52 as id"))
    project.run("run", "--event-time-start", "2020-05-01", "--event-time-end", "2020-06-01")
    wanted = expected()
    wanted[-1] = (52, "2020-05", 52)
    wanted[-2] = (50, "2020-05", 50)
    for _ in range(1 if project.cluster else 2):
        assert "is what it was before" in project.lakebed("backfill", "visits", *SPAN, "--undo")
        assert project.visits() == wanted
    untag = {"relation": f"{project.schema}.visits", "name": tag_of(project)}
    project.run("run-operation", "lakebed.untag", "--args", json.dumps(untag))
    assert "no tag" in project.lakebed("backfill", "visits", *SPAN, "--undo", code=1)
    assert project.visits() == wanted


def tag_of(project: Project) -> str:
    place = f"ops.tags where table_schema = '{project.schema}'"
    if project.cluster and project.cluster.table_format == "iceberg":
        place = f"{project.schema}.visits.refs where type = 'TAG'"
    ((found,),) = project.query(f"select name from {place}")
    return str(found)


def test_a_backfill_of_other_code_is_not_gone_on_with(local: Project) -> None:
    local.write("models/visits.sql", BATCHED.format(points="id"))
    local.lakebed(*STEPS, "--at-most", "1")
    local.write("models/visits.sql", BATCHED.format(points="id * 3"))
    assert "the models were changed" in local.lakebed(*STEPS, code=1)
    local.write("models/visits.sql", BATCHED.format(points="id"))
    other = ("backfill", "visits", "--start", "2020-02-01", "--end", "2020-05-01")
    assert "the steps were others" in local.lakebed(*other, "--batches", "2", code=1)
    local.write("models/visits.sql", BATCHED.format(points="id * 3"))
    assert local.visits() == expected(2)
    local.lakebed(*STEPS[:-1], "3", "--again")
    assert {row[2] / row[0] for row in local.visits() if "2020-02" <= row[1] <= "2020-04"} == {3}


def test_refusals(local: Project) -> None:
    def refused(*command: str) -> str:
        printed = local.lakebed("backfill", *command, code=1)
        assert printed.startswith("Error: ")
        assert len(printed.splitlines()) == 1, printed
        return printed

    assert "selects no model" in refused("nothing", *SPAN)
    assert "no microbatch model: totals" in refused("visits+", *SPAN)
    middle = ("--start", "2020-02-02", "--end", "2020-05-01")
    assert "is not where a month begins" in refused("visits", *middle)
    assert "begins at" in refused("visits", "--start", "2019-12-01", "--end", "2020-05-01")
    assert "must be before" in refused("visits", "--start", "2020-05-01", "--end", "2020-02-01")
    assert "there was no backfill" in refused("visits", *SPAN, "--undo")
    local.write("models/later.sql", BATCHED.format(points="id"))
    assert "there is no table" in refused("later", *SPAN)
    assert local.visits() == expected()


@given(
    st.datetimes(datetime(1999, 1, 1), datetime(2030, 1, 1)),
    st.sampled_from(SIZES),
    st.integers(1, 40),
    st.integers(1, 200),
)
def test_steps_cover_the_span_once(moment: datetime, size: str, batches: int, span: int) -> None:
    start = floor(moment, size)
    assert start <= moment < later(start, size, 1)
    end = later(start, size, span)
    found = list(steps(start, end, size, batches))
    assert found[0][0] == start
    assert found[-1][1] == end
    assert all(a[1] == b[0] for a, b in pairwise(found))
    assert len(found) == -(-span // batches)
    assert all(floor(step[0], size) == step[0] for step in found)
