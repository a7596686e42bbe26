"""`lakebed maintain`: the right plan, done; nothing to do is nothing done."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, DbtProject, lakebed
from lakebed.dbt import Project
from lakebed.errors import UserError
from lakebed.maintain.policy import plan, settings_of
from lakebed.maintain.run import execute
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session

PROVES = ["pat-vacuum-optimize-policies"]

FILES = {
    "models/schema.yml": """
models:
  - name: small
    config: {materialized: table}
  - name: sorted
    config: {materialized: table, meta: {maintain: {cluster_by: [id]}}}
  - name: left_alone
    config: {materialized: table, meta: {maintain: {enabled: false}}}
""",
    **{
        f"models/{name}.sql": "select cast(0 as bigint) as id, cast(0 as bigint) as amount"
        for name in ("small", "sorted", "left_alone")
    },
}
DEFAULTS: dict[str, Any] = {
    "all": {
        "enabled": True,
        "priority": 5,
        "target_mb": 128,
        "excess_files": 20,
        "deleted_share": 0.1,
        "inlined_rows": 1000,
        "cluster_by": [],
        "cluster_share": 0.2,
        "expire_every_days": 1,
    },
    "gold": {"priority": 1},
    "bronze": {"priority": 3, "excess_files": 50},
}
MB = 1_000_000


def table(name: str, **measured: Any) -> dict[str, Any]:
    well = {"files": 1, "bytes": MB, "rows": 1000, "small_files": 0, "small_bytes": 0}
    none = ("delete_files", "deleted_rows", "dirty_bytes", "inlined_rows", "new_bytes")
    return {
        "table": name,
        **well,
        **dict.fromkeys(none, 0),
        "versions": 1,
        "version": 1,
        "expirable": False,
        **measured,
    }


def facts(*tables: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "defaults": DEFAULTS,
        "own": {},
        "models": {},
        "keep_days": 7,
        "as_of": "2026-01-10 00:00:00",
        "history": [],
        "lake": None,
        "tables": list(tables),
        **more,
    }


def test_the_plan_of_a_lake_of_three_hundred_tables() -> None:
    """Each state of a table, whatever its neighbours: the action that it needs, in order."""
    rng = random.Random(1)
    small = {"small_files": 80, "small_bytes": 8 * MB}
    kinds: dict[str, dict[str, Any]] = {
        "well": {"files": 30, "bytes": 3000 * MB},
        "small_files": {"files": 81, "bytes": 9 * MB, **small},
        "partitioned": {"files": 81, "bytes": 9 * MB, **small},
        "deleted": {"files": 2, "deleted_rows": 150, "delete_files": 2, "dirty_bytes": MB},
        "few_deleted": {"files": 2, "deleted_rows": 50, "delete_files": 2, "dirty_bytes": MB},
        "inlined": {"files": 0, "bytes": 0, "rows": 0, "inlined_rows": 5000},
        "unsorted": {"new_bytes": MB},
        "nearly_sorted": {"new_bytes": MB // 10},
        "off": {"files": 500, "bytes": 9 * MB, **small},
    }
    tables, models, history, expected = [], {}, [], {}
    for number in range(300):
        kind = rng.choice(list(kinds))
        name = f"{rng.choice(['gold', 'dev_gold', 'bronze', 'elsewhere'])}.t{number}"
        tables.append(table(name, **kinds[kind]))
        if kind == "partitioned":
            done = {"action": "optimize", "version": 1, "at": "2026-01-01 00:00:00"}
            history.append({"table": name, "files": 75, **done})
        if "sorted" in kind:
            models[name] = {"cluster_by": ["id"]}
        if kind == "off":
            models[name] = {"enabled": False}
        wanted = {"small_files": "optimize", "deleted": "optimize", "inlined": "optimize"}
        if verb := {**wanted, "unsorted": "cluster"}.get(kind):
            expected[name] = verb
    found = plan(facts(*tables, models=models, history=history))
    assert {action.table: action.action for action in found.actions} == expected
    assert len(expected) > 100
    order = [action.priority for action in found.actions]
    assert order == sorted(order)
    assert found.actions[0].table.split(".")[0].endswith("gold")
    assert found.actions[0].reason == "81 files where 1 would do, 99% are small"
    assert found.actions[0].cost == 8 * MB


def test_settings_of_the_narrower_place_win_and_wrong_ones_are_refused() -> None:
    own = {"all": {"target_mb": 64}, "gold": {"target_mb": 32}}
    given = facts(own=own, models={"gold.one": {"target_mb": 16}})
    assert settings_of("gold.one", given)["target_mb"] == 16
    assert settings_of("gold.two", given)["target_mb"] == 32
    assert settings_of("bronze.one", given)["target_mb"] == 64
    assert settings_of("bronze.one", given)["excess_files"] == 50
    for wrong, message in (
        ({"target": 1}, "no setting 'target'"),
        ({"target_mb": "big"}, "target_mb cannot be 'big'"),
        ({"target_mb": 0}, "target_mb cannot be 0"),
        ({"enabled": 1}, "enabled cannot be 1"),
        ({"cluster_by": "id"}, "cluster_by cannot be 'id'"),
        (["target_mb"], "must be settings"),
    ):
        with pytest.raises(UserError, match=message):
            settings_of("gold.one", facts(models={"gold.one": wrong}))


def test_expire_is_for_what_is_old_and_not_every_hour() -> None:
    lake = {"versions": 9, "expirable": 3, "removable_files": 0, "old_bytes": MB, "shared": False}
    assert [a.action for a in plan(facts(lake=lake)).actions] == ["expire"]
    assert not plan(facts(lake={**lake, "expirable": 0})).actions
    today = {"table": ".*", "action": "expire", "version": 1, "files": 0}
    assert not plan(facts(lake=lake, history=[{**today, "at": "2026-01-09 12:00:00"}])).actions
    assert plan(facts(lake=lake, history=[{**today, "at": "2026-01-09 00:00:00"}])).actions
    of_delta = table("gold.t", versions=9, version=9, expirable=True)
    assert [a.table for a in plan(facts(of_delta)).actions] == ["gold.t"]
    done = {"table": "gold.t", "action": "expire", "version": 9, "files": 0, "at": "2026-01-01"}
    assert not plan(facts(of_delta, history=[done])).actions
    # Iceberg's versions are in no order: a smaller number is another version too.
    assert plan(facts({**of_delta, "version": 3}, history=[done])).actions


class Scripted(Project):
    """Answers as dbt would, from a script: for each call, events and an error at the end."""

    def __init__(self, *script: tuple[list[dict[str, Any]], str | None]) -> None:
        super().__init__(Path())
        self.__dict__["script"], self.__dict__["recorded"] = list(script), []

    def operation(
        self,
        name: str,
        arguments: dict[str, Any],
        _subjects: Any = (),
        hear: Callable[[str], None] | None = None,
    ) -> str:
        if name != "maintain_tables":
            self.__dict__["recorded"].append((arguments["action"]["table"], arguments["state"]))
            return ""
        assert hear
        asked = [action["at"] for action in arguments["actions"]]
        events, error = self.__dict__["script"].pop(0)
        for event in events:
            assert event["at"] in asked
            hear("LAKEBED " + json.dumps(event))
        if error:
            raise UserError(error)
        return ""


def test_a_conflict_is_tried_again_then_left_and_the_others_are_done() -> None:
    sizes = {"files": 500, "bytes": MB, "small_files": 500, "small_bytes": MB}
    found = plan(facts(*(table(f"gold.t{n}", **sizes) for n in range(4))))

    def events(*at: int, last: str = "done") -> list[dict[str, Any]]:
        counts = {"files_before": 500, "files_after": 1, "bytes_before": MB, "bytes_after": MB}
        started = [
            [{"state": "started", "at": n}, {"state": "done", "at": n, **counts}] for n in at
        ]
        flat = [event for pair in started for event in pair]
        return flat if last == "done" else flat[:-1]

    busy = "Exceeded the maximum retry count of 10 set by ducklake_max_retry_count"
    project = Scripted(
        ([], busy),  # before any action
        (events(0, 1, last="started"), "Transaction conflict - attempting to compact"),
        (events(1, last="started"), "could not serialize access"),
        (events(1, last="started"), "org.apache.iceberg.exceptions.CommitFailedException: ..."),
        (events(2, last="started"), "The disk is full."),
        (events(3), None),
    )
    told: list[tuple[int, str]] = []
    wrong = execute(project, found, None, lambda at, text: told.append((at, text)))
    assert wrong == ["optimize gold.t2: The disk is full."]
    assert project.__dict__["recorded"] == [("gold.t1", "gave way"), ("gold.t2", "failed")]
    assert [at for at, text in told if "became" in text] == [0, 3]
    assert [at for at, text in told if "once more" in text] == [1, 1]
    with pytest.raises(UserError, match="in use by"):  # before any action: the lake is locked
        execute(
            Scripted(*[([], busy)] * 7, ([], "The lake's catalogue is in use by process 7.")),
            found,
            None,
            print,
        )
    with pytest.raises(UserError, match="Exceeded"):
        execute(Scripted(*[([], busy)] * 8), found, None, print)


class Neglected:
    """A project whose tables have many small files."""

    def __init__(self, folder: Path, engine: Cluster | None) -> None:
        self.engine = engine
        variables = {"lakebed_ops_schema": f"ops_{random.randrange(10**9)}"}
        self.ops = variables["lakebed_ops_schema"]
        own = {"all": {"excess_files": 5}}
        self.project = DbtProject(folder, FILES, {**variables, "maintain": own}, None, engine)
        self.project.run("build")
        self.write(range(1, 9))

    def write(self, numbers: range) -> None:
        with ExitStack() as stack:
            if self.engine:
                execute = stack.enter_context(connect_session(self.engine.connect_url)).sql
            else:
                execute = stack.enter_context(self.project.connect()).execute
            rows = (
                "id, 1 from range({0}, {0} + 20)"
                if self.engine
                else "range, 1 from range({0}, {0} + 20)"
            )
            for number in numbers:
                for name in ("small", "sorted", "left_alone"):
                    execute(
                        f"insert into {self.project.schema}.{name} select "
                        + rows.format(100 * number)
                    )

    def plan(self) -> dict[str, str]:
        found = json.loads(lakebed(self.project, "maintain", "plan", "--json").stdout)
        ours = [a for a in found["actions"] if a["table"].startswith(f"{self.project.schema}.")]
        return {a["table"].split(".")[1]: a["action"] for a in ours}

    def hashes(self) -> list[str]:
        names = ("small", "sorted", "left_alone")
        return [self.project.table_hash(f"{self.project.schema}.{name}") for name in names]


@pytest.fixture
def neglected(lake: Cluster | None, tmp_path: Path) -> Neglected:
    return Neglected(tmp_path / "project", lake)


@pytest.mark.soak_on("iceberg")
def test_a_neglected_lake_becomes_a_healthy_one(neglected: Neglected) -> None:
    project = neglected.project
    rows = neglected.hashes()
    assert neglected.plan() == {"small": "optimize", "sorted": "cluster"}
    shown = lakebed(project, "maintain", "plan").stdout
    assert re.search("[0-9]+ files where 1 would do", shown)
    assert "is not clustered by id" in shown
    log = lakebed(project, "maintain", "run").stdout
    assert re.search("small: [0-9]+ files became 1", log)
    assert neglected.plan() == {}
    assert neglected.hashes() == rows
    done = project.query(
        f"select table_name, action, state, files_after from {neglected.ops}.maintenance"
        " order by table_name"
    )
    assert done == [("small", "optimize", "done", 1), ("sorted", "cluster", "done", 1)]

    neglected.write(range(10, 16))
    rows = neglected.hashes()
    log = lakebed(project, "maintain", "run", "--budget", "0s").stdout
    assert "out of time" in log
    assert "became" not in log
    lakebed(project, "maintain", "run", "--budget", "10m")
    assert neglected.plan() == {}
    assert neglected.hashes() == rows


@pytest.mark.soak
def test_a_run_killed_anywhere_is_run_again(tmp_path: Path) -> None:
    neglected = Neglected(tmp_path / "project", None)
    rows = neglected.hashes()
    rng = random.Random(3)
    for _ in range(2):
        run = subprocess.Popen(
            [sys.executable, "-c", "from lakebed.cli import main; main()", "maintain", "run"],
            cwd=neglected.project.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(rng.uniform(4.0, 6.5))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        assert neglected.hashes() == rows
        neglected.write(range(20, 27))
        rows = neglected.hashes()
    lakebed(neglected.project, "maintain", "run")
    assert neglected.plan() == {}
    assert neglected.hashes() == rows


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    project = DbtProject(tmp_path, FILES, {"maintain": {"gold": {"colour": "red"}}})
    done = lakebed(project, "maintain", "run", "--budget", "soon", check=False)
    assert done.stderr.startswith("Error: --budget is a time")
    done = lakebed(project, "maintain", "plan", check=False)
    assert done.returncode == 1
    assert "vars: {maintain: {gold: ...}} has no setting 'colour'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
