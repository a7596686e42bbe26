"""Retention: rows older than a table's policy are archived, then deleted.

A model says `meta: {retention: {column: sold_at, days: 730, archive: archives}}`. What is on legal
hold stays, whatever the policy. Killed anywhere, a run is run again: an archive whose rows were
not deleted is written anew.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from lakebed import snapshots
from lakebed.dbt import Project, answer
from lakebed.errors import UserError

PATTERNS = ["pat-retention-policy"]

#: A build makes these anew from their parents, old rows included.
_REBUILT = ("table", "view", "ephemeral", "materialized_view", "seed")
_HOLD = ["table", "column", "value", "reason"]


@dataclass(frozen=True)
class Policy:
    """What is let go of one table. `held` is why all of it stays, `holds` the rows that do."""

    table: str
    column: str
    cutoff: str
    archive: Path | None
    columns: list[dict[str, str]]
    holds: list[dict[str, str]]
    held: str | None


@dataclass(frozen=True)
class Due:
    """Rows of one table that its policy lets go, and those kept by a hold; `bytes` is a share."""

    policy: Policy
    condition: str
    rows: int
    held: int
    bytes: int


def due(project: Project) -> tuple[list[Due], list[dict[str, str]]]:
    """What each table would lose, and archives of runs that were killed.

    Raises UserError for whatever is wrong with a policy or a hold; changes nothing.
    """
    facts = answer(project.operation("retention_facts", {}))
    file = project.folder / facts["holds"] if facts["holds"] else None
    found = policies(facts, read_holds(file), project.folder)
    free = [policy for policy in found if policy.held is None]
    asked = [
        {
            "table": policy.table,
            "column": policy.column,
            "cutoff": policy.cutoff,
            "holds": policy.holds,
        }
        for policy in free
    ]
    counts: list[dict[str, Any]] = []
    if asked:
        counts = answer(project.operation("retention_counts", {"tables": asked}))["tables"]
    result = [Due(policy, "", 0, 0, 0) for policy in found if policy.held]
    for policy, count in zip(free, counts, strict=True):
        share = count["old"] / max(count["rows"], 1)
        size = round(count["bytes"] * share)
        result.append(Due(policy, count["condition"], count["old"], count["held"], size))
    return sorted(result, key=lambda each: each.policy.table), facts["open"]


def policies(
    facts: Mapping[str, Any], holds: Sequence[Mapping[str, str]], folder: Path
) -> list[Policy]:
    """The checked policies of the tables that are there. Raises UserError that names all gaps."""
    problems = []
    found = []
    today = date.fromisoformat(facts["as_of"][:10])
    known = {entry["table"] for entry in facts["tables"]}
    for hold in holds:
        if hold["table"] not in {*known, "*"}:
            problems.append(f"legal hold on {hold['table']}: no table with a retention policy")
        elif hold["table"] == "*" and hold["column"]:
            problems.append("legal hold on *: it is for whole tables, and takes no column")
    for entry in facts["tables"]:
        table, policy, columns = entry["table"], entry["policy"], entry["columns"]
        names = {column["name"].lower() for column in columns}
        if problem := _problem(entry):
            problems.append(f"{table}: {problem}")
            continue
        if not columns:
            continue  # not built yet
        if policy["column"].lower() not in names:
            problems.append(f"{table}: has no column '{policy['column']}'")
            continue
        mine = [hold for hold in holds if hold["table"] in (table, "*")]
        for hold in mine:
            if hold["column"] and hold["column"].lower() not in names:
                problems.append(f"legal hold on {table}: it has no column '{hold['column']}'")
        whole = next((hold["reason"] or "no reason" for hold in mine if not hold["column"]), None)
        archive = folder / policy["archive"] if policy.get("archive") else None
        cutoff = today - timedelta(days=policy["days"])
        rows = [
            {"column": hold["column"], "value": hold["value"]} for hold in mine if hold["column"]
        ]
        found.append(
            Policy(table, policy["column"], cutoff.isoformat(), archive, columns, rows, whole)
        )
    if problems:
        raise UserError("\n  ".join(["nothing was deleted, for", *problems]))
    return found


def _problem(entry: Mapping[str, Any]) -> str | None:
    policy = entry["policy"]
    if not isinstance(policy, dict) or not {"column", "days"} <= set(policy):
        return f"retention must be {{column, days, archive}}, not {policy!r}"
    if unknown := sorted(set(policy) - {"column", "days", "archive"}):
        return f"retention has no setting '{unknown[0]}'; there is column, days, archive"
    days = policy["days"]
    if not isinstance(days, int) or isinstance(days, bool) or days < 0:
        return f"days must be a number of days, not {days!r}"
    if days < entry["promise"]:
        return (
            f"a retention of {days} days is shorter than the {entry['promise']} days of time "
            "travel that are promised"
        )
    if entry["built"] in _REBUILT:
        return (
            f"each build makes it anew ({entry['built']}), with its old rows: retention belongs to "
            "the tables that it is made from"
        )
    if entry["built"] == "snapshot" and policy["column"] != "dbt_valid_to":
        return "the next run brings back what a snapshot lacks: the column must be dbt_valid_to"
    return None


def read_holds(file: Path | None) -> list[dict[str, str]]:
    """Rows of a CSV file with table, column, value, reason. Raises UserError."""
    if file is None:
        return []
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            rows = list(reader)
    except OSError as error:
        raise UserError(
            f"the legal holds cannot be read, so nothing is deleted: {error}"
        ) from error
    if list(reader.fieldnames or []) != _HOLD:
        raise UserError(f"{file} must have the columns {','.join(_HOLD)}; nothing is deleted.")
    found = []
    for number, row in enumerate(rows, 2):
        if None in row or None in row.values() or bool(row["column"]) != bool(row["value"]):
            raise UserError(f"{file}:{number} is no hold: table, and column and value or neither.")
        found.append({key: value.strip() for key, value in row.items()})
    return found


def run(
    project: Project,
    tables: Sequence[Due],
    open_archives: Sequence[Mapping[str, str]],
    tell: Callable[[str, str], None],
) -> None:
    """Archive and delete. Raises UserError; what was done before stays done."""
    columns = {each.policy.table: each.policy.columns for each in tables}
    for left in open_archives:
        _settle(project, left, columns.get(left["table"], []), tell)
    for each in tables:
        if not each.rows:
            continue
        policy = each.policy
        arguments: dict[str, Any] = {
            "table": policy.table,
            "condition": each.condition,
            "columns": policy.columns,
            "rows": each.rows,
        }
        if policy.archive:
            folder = _free(policy.archive / policy.table / f"until-{policy.cutoff}")
            noted = {"condition": each.condition, "archive": str(folder)}
            project.operation("retention_archiving", {"table": policy.table, **noted})
            snapshots.export(project, policy.table, folder, each.condition)
            made = snapshots.verify(folder)  # what is on the disk, not what was meant to be
            arguments |= {key: made[key] for key in ("rows", "digest", "sha256")}
            arguments["archive"] = str(folder)
            tell(policy.table, f"{made['rows']:,} rows archived in {folder}")
        if not answer(project.operation("retention_delete", arguments))["deleted"]:
            raise UserError(
                f"{policy.table} was changed while it was archived; nothing was deleted from it. "
                "Run the same command again."
            )
        tell(policy.table, f"{arguments['rows']:,} rows deleted")


def _settle(
    project: Project,
    left: Mapping[str, str],
    columns: list[dict[str, str]],
    tell: Callable[[str, str], None],
) -> None:
    """An archive of a run that was killed: either its rows are gone, or it is not needed."""
    folder = Path(left["archive"])
    arguments = {**left, "columns": columns, "folder": None, "rows": 0, "sha256": ""}
    if folder.exists():
        made = snapshots.verify(folder)
        data = {"folder": str(folder / snapshots.DATA), "columns": made["columns"]}
        found = {**arguments, **data, "rows": made["rows"], "sha256": made["sha256"]}
        if answer(project.operation("retention_settle", found))["state"] == "deleted":
            tell(left["table"], f"{made['rows']:,} rows were deleted by a run that was killed")
            return
        shutil.rmtree(folder)
    project.operation("retention_settle", arguments)


def _free(folder: Path) -> Path:
    """`folder`, or the first of `folder-2`, ... that is not there."""
    found, number = folder, 1
    while found.exists():
        number += 1
        found = folder.with_name(f"{folder.name}-{number}")
    return found
