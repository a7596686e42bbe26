"""Run microbatch models anew over a span of time: in steps, written down, compared, and undone.

A step is one `dbt run` over an interval of event time; a batch in it is one transaction, so that
whatever is killed is simply run again. What is done is in `ops.backfills`, so the same command
goes on where it was left.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from lakebed.dbt import Project, answer
from lakebed.errors import UserError

PATTERNS = ["pat-replay-backfill"]

SIZES = ("hour", "day", "month", "year")
Interval = tuple[datetime, datetime]
Difference = dict[str, Any]  # table, before, after, gone, new, outside: rows


@dataclass(frozen=True)
class Backfill:
    """What is to be run anew: `tables` of {table, event_time}, `steps` in the order of time.

    `done` are the steps that this attempt has behind it, `open` whether it has begun.
    """

    select: str
    start: datetime
    end: datetime
    code: str
    tables: list[dict[str, str]]
    steps: list[Interval]
    below: list[str]
    attempt: int
    open: bool
    done: set[Interval]

    @property
    def name(self) -> str:
        return f"{self.select} {text(self.start)} to {text(self.end)}"

    @property
    def tag(self) -> str:
        """The name that macro `backfill_begin` gives to the version before."""
        return f"before backfill {self.name} #{self.attempt}"

    @property
    def left(self) -> list[Interval]:
        return [step for step in self.steps if step not in self.done]


def text(moment: datetime) -> str:
    return moment.isoformat(sep=" ")


def prepare(
    project: Project, select: str, start: datetime, end: datetime, batches: int, again: bool
) -> Backfill:
    """Check everything, and find what is done already. Raises UserError; touches nothing."""
    manifest = project.manifest()
    nodes = _selected(project, manifest, select)
    size = max((node["config"]["batch_size"] for node in nodes), key=SIZES.index)
    for option, moment in (("--start", start), ("--end", end)):
        if floor(moment, size) != moment:
            raise UserError(f"{option} {text(moment)} is not where a {size} begins: batches do.")
    if start >= end:
        raise UserError(f"--start {text(start)} must be before --end {text(end)}.")
    for node in nodes:
        begin = datetime.fromisoformat(str(node["config"]["begin"])[:19])
        if start < floor(begin, size):
            raise UserError(f"{node['name']} begins at {text(begin)}, after --start {text(start)}.")
    tables = [
        {"table": f"{node['schema']}.{node['alias']}", "event_time": node["config"]["event_time"]}
        for node in nodes
    ]
    code = hashlib.sha256("".join(node["checksum"]["checksum"] for node in nodes).encode())
    found = Backfill(
        select,
        start,
        end,
        code.hexdigest()[:16],
        tables,
        list(steps(start, end, size, batches)),
        _below(manifest, nodes),
        *(1, False, set()),
    )
    return _with_log(project, found, again)


def _with_log(project: Project, found: Backfill, again: bool) -> Backfill:
    facts = answer(
        project.operation("backfill_facts", {"name": found.name, "tables": found.tables})
    )
    if facts["missing"]:
        raise UserError(
            f"there is no table {', '.join(facts['missing'])} to run anew: `dbt build` makes it, "
            "with all its history."
        )
    attempt = max((row["attempt"] for row in facts["log"]), default=0)
    mine = [row for row in facts["log"] if row["attempt"] == attempt]
    events = {row["event"] for row in mine}
    if not attempt or again or "undone" in events:
        return _replaced(found, attempt + 1, False, set())
    done = {
        (datetime.fromisoformat(row["starts_at"][:19]), datetime.fromisoformat(row["ends_at"][:19]))
        for row in mine
        if row["event"] == "step"
    }
    if "finished" in events:
        raise UserError(
            f"the backfill {found.name} is finished. `--again` runs it anew; `--undo` puts the old "
            "rows back."
        )
    if {row["code"] for row in mine} != {found.code}:
        raise UserError(
            f"the models were changed since the backfill {found.name} began, {len(done)} steps "
            "ago: `--again` begins anew with them as they are, `--undo` puts the old rows back."
        )
    if not done <= set(found.steps):
        raise UserError(
            "the steps were others when this backfill began: give the same --batches, or --again."
        )
    return _replaced(found, attempt, True, done)


def _replaced(found: Backfill, attempt: int, is_open: bool, done: set[Interval]) -> Backfill:
    return Backfill(**{**vars(found), "attempt": attempt, "open": is_open, "done": done})


def run(
    project: Project,
    backfill: Backfill,
    at_most: int | None,
    tell: Callable[[Interval, list[Difference]], None],
) -> list[Difference] | None:
    """Do the steps that are left, the oldest first; `at_most` so many.

    Returns how the whole span differs from before, or None while steps are left. Raises UserError
    with dbt's own error: what is done stays done.
    """
    if not backfill.open:
        _say(project, "backfill_begin", backfill, backfill.start, backfill.end)
    left = backfill.left
    for start, end in left[:at_most]:
        project.dbt(
            *("run", "--select", backfill.select),
            *("--event-time-start", text(start), "--event-time-end", text(end)),
        )
        tell((start, end), compare(project, backfill, "step", start, end))
    if at_most is not None and len(left) > at_most:
        return None
    return compare(project, backfill, "finished", backfill.start, backfill.end)


def undo(project: Project, backfill: Backfill) -> list[Difference]:
    """Put the span back to what it was before the last attempt; later rows outside of it stay."""
    found = answer(_say(project, "backfill_undo", backfill, backfill.start, backfill.end))
    tables: list[Difference] = found["tables"]
    return tables


def last_attempt(project: Project, select: str, start: datetime, end: datetime) -> Backfill:
    """The attempt that `undo` takes back. Raises UserError when there is none."""
    manifest = project.manifest()
    nodes = _selected(project, manifest, select)
    tables = [
        {"table": f"{node['schema']}.{node['alias']}", "event_time": node["config"]["event_time"]}
        for node in nodes
    ]
    found = Backfill(select, start, end, "", tables, [], _below(manifest, nodes), 0, True, set())
    facts = answer(project.operation("backfill_facts", {"name": found.name, "tables": tables}))
    attempts = [row["attempt"] for row in facts["log"]]
    if not attempts:
        raise UserError(f"there was no backfill {found.name}; nothing was undone.")
    return _replaced(found, max(attempts), True, set())


def compare(
    project: Project, backfill: Backfill, event: str, start: datetime, end: datetime
) -> list[Difference]:
    """How rows of an interval differ from before; `event` none: only how many there are."""
    tables: list[Difference] = answer(
        _say(project, "backfill_compare", backfill, start, end, event=event)
    )["tables"]
    return tables


def _say(
    project: Project, macro: str, backfill: Backfill, start: datetime, end: datetime, **more: str
) -> str:
    arguments = {
        "name": backfill.name,
        "attempt": backfill.attempt,
        "tag": backfill.tag,
        "code": backfill.code,
        "tables": backfill.tables,
        "starts_at": text(start),
        "ends_at": text(end),
    }
    return project.operation(macro, {**arguments, **more})


def _selected(project: Project, manifest: dict[str, Any], select: str) -> list[dict[str, Any]]:
    """The selected models, all of them microbatch. Raises UserError."""
    printed = project.dbt(
        *("ls", "--select", select, "--resource-type", "model"),
        *("--output", "json", "--output-keys", "unique_id"),
    )
    names = [json.loads(line)["unique_id"] for line in printed.splitlines() if line[:1] == "{"]
    if not names:
        raise UserError(f"`{select}` selects no model.")
    nodes = [manifest["nodes"][name] for name in sorted(names)]
    others = [
        node["name"]
        for node in nodes
        if node["config"].get("incremental_strategy") != "microbatch"
        or node["config"].get("materialized") != "incremental"
    ]
    if others:
        raise UserError(
            f"no microbatch model: {', '.join(others)}. Only a model that dbt builds by intervals "
            "of event time can be run anew for one; build the others with `dbt build`."
        )
    return nodes


def _below(manifest: dict[str, Any], nodes: Sequence[dict[str, Any]]) -> list[str]:
    """Models that are made from the selected ones, and are not selected."""
    mine = {node["unique_id"] for node in nodes}
    found: set[str] = set()
    waiting = list(mine)
    while waiting:
        for child in manifest["child_map"].get(waiting.pop(), []):
            if child.startswith(("model.", "snapshot.")) and child not in found | mine:
                found.add(child)
                waiting.append(child)
    return sorted(name.split(".")[2] for name in found)


def steps(start: datetime, end: datetime, size: str, batches: int) -> Iterator[Interval]:
    """Intervals of so many batches that cover start to end; the last may be shorter.

    >>> [s.day for s, _ in steps(datetime(2020, 1, 1), datetime(2020, 1, 6), "day", 2)]
    [1, 3, 5]
    """
    while start < end:
        after = min(later(start, size, batches), end)
        yield start, after
        start = after


def floor(moment: datetime, size: str) -> datetime:
    """Where the batch of a moment begins."""
    return datetime(
        moment.year,
        1 if size == "year" else moment.month,
        moment.day if size in ("day", "hour") else 1,
        moment.hour if size == "hour" else 0,
    )


def later(moment: datetime, size: str, batches: int) -> datetime:
    """The moment so many batches later, of a moment that a batch begins at."""
    if size in ("hour", "day"):
        return moment + batches * timedelta(**{f"{size}s": 1})
    months = moment.month - 1 + (batches if size == "month" else 12 * batches)
    return moment.replace(year=moment.year + months // 12, month=months % 12 + 1)
