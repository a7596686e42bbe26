"""Measure, and do what a plan says: one dbt process for all tables, watched from here.

A writer may be quicker than an action: it is tried again, then left for the next run. Killed
anywhere, the next run measures anew, and finds what is left to do.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import Any

from lakebed.dbt import Project, answer
from lakebed.errors import UserError
from lakebed.maintain.policy import Plan

_MARK = "LAKEBED "
#: What DuckLake, PostgreSQL, Delta and Iceberg say when another transaction was quicker.
_CONFLICT = re.compile(
    r"[Tt]ransaction conflict|Exceeded the maximum retry count|could not serialize"
    r"|Concurrent\w*Exception|DELTA_CONCURRENT"
    r"|CommitFailedException|Found (new )?conflicting|Missing required files to delete"
)
TRIES = 3
#: Of the few rows that a run writes about itself, which it cannot do without.
OWN_TRIES = 8

Tell = Callable[[int, str], None]


def measure(project: Project) -> dict[str, Any]:
    """What `policy.plan` needs. Raises UserError."""
    return answer(project.operation("maintenance_facts", {}))


def execute(project: Project, plan: Plan, budget: float | None, tell: Tell) -> list[str]:
    """Do the actions of a plan in order; returns what went wrong, a line each.

    `budget` in seconds: no action is begun after it. `tell(i, text)` hears of each action.
    """
    run_id = uuid.uuid4().hex[:12]
    stop_at = time.time() + budget if budget is not None else 0
    waiting = list(range(len(plan.actions)))
    tries = Counter[int | None]()
    wrong: list[str] = []
    while waiting:
        at, error, out_of_time = _some(project, plan, waiting, run_id, stop_at, tell)
        if out_of_time:
            for left in waiting:
                tell(left, "left for the next run: out of time")
            break
        if error is None:
            continue
        conflict = bool(_CONFLICT.search(error))
        tries[at] += 1
        if at is None:  # before any action
            if conflict and tries[at] < OWN_TRIES:
                continue
            raise UserError(error)
        if conflict and tries[at] < TRIES:
            tell(at, "a writer was quicker: once more")
            continue
        action = plan.actions[at]
        waiting.remove(at)
        state = "gave way" if conflict else "failed"
        _record(project, {"run_id": run_id, "action": action.as_dict(), "state": state})
        if conflict:
            tell(at, "gave way to writers; left for the next run")
        else:
            tell(at, "failed")
            wrong.append(f"{action.action} {action.table}: {error}")
    return wrong


def _record(project: Project, arguments: dict[str, Any]) -> None:
    for left in reversed(range(OWN_TRIES)):
        try:
            project.operation("record_maintenance", arguments)
            return
        except UserError as error:
            if not left or not _CONFLICT.search(str(error)):
                raise


def _some(
    project: Project,
    plan: Plan,
    waiting: list[int],
    run_id: str,
    stop_at: float,
    tell: Tell,
) -> tuple[int | None, str | None, bool]:
    """Do what waits until one fails; returns which, with what error, and whether time is up."""
    started: int | None = None
    began = 0.0
    out_of_time = False
    arguments = {
        "run_id": run_id,
        "actions": [{**plan.actions[i].as_dict(), "at": i} for i in waiting],
        "keep_days": plan.keep_days,
        "stop_at": stop_at,
    }

    def hear(line: str) -> None:
        nonlocal started, began, out_of_time
        if not line.startswith(_MARK):
            return
        event = json.loads(line.removeprefix(_MARK))
        if event["state"] == "out of time":
            out_of_time = True
        elif event["state"] == "started":
            started, began = event["at"], time.monotonic()
            tell(event["at"], "")
        else:
            waiting.remove(event["at"])
            started = None
            tell(event["at"], _outcome(event, time.monotonic() - began))

    try:
        project.operation("maintain_tables", arguments, hear=hear)
    except UserError as error:
        return started, str(error), False
    return None, None, out_of_time


def _outcome(event: dict[str, Any], seconds: float) -> str:
    if not event["files_before"] and not event["files_after"]:
        return f"done in {seconds:.1f} s"
    return (
        f"{event['files_before']} files became {event['files_after']}, "
        f"{event['bytes_before'] / 1e6:,.1f} MB became {event['bytes_after'] / 1e6:,.1f} MB, "
        f"{seconds:.1f} s"
    )
