"""What a lake needs, from what is measured of it: which action, why, what it costs and gives.

Settings stand in dbt: `vars: {maintain: {<layer>: {...}}}` and a model's `meta: {maintain: {...}}`,
over Lakebed's own `maintain_defaults`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from lakebed.errors import UserError

PATTERNS = ["pat-vacuum-optimize-policies"]

#: The whole lake: DuckLake has one history for all its tables.
LAKE = "*"


@dataclass(frozen=True)
class Action:
    """One thing to do to one table. `cost` in bytes to be written anew, `saves` in files."""

    action: str
    table: str
    reason: str
    benefit: str
    cost: int
    saves: int
    priority: int
    target_mb: int = 128
    by: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Plan:
    """Actions in the order in which they are to be done, and what cannot be done."""

    actions: list[Action]
    notes: list[str]
    tables: int
    keep_days: int


def plan(facts: Mapping[str, Any]) -> Plan:
    """The plan for what macro `maintenance_facts` measured. Raises UserError for wrong settings."""
    now = datetime.fromisoformat(str(facts["as_of"])[:19])
    history = {(entry["table"], entry["action"]): entry for entry in facts["history"]}
    for where, source in (("maintain_defaults", facts["defaults"]), ("maintain", facts["own"])):
        if not isinstance(source, dict):
            raise UserError(f"vars: {{{where}: ...}} must be settings by layer, not {source!r}.")
        for key, value in source.items():
            checked(value, facts["defaults"]["all"], f"vars: {{{where}: {{{key}: ...}}}}")
    actions: list[Action] = []
    notes: list[str] = []
    shared = bool((facts["lake"] or {}).get("shared"))
    for table in facts["tables"]:
        name = table["table"]
        settings = settings_of(name, facts)
        if not settings["enabled"] or name.split(".")[1].startswith("positions"):
            continue
        if found := _rewrite(table, settings, history):
            if shared and table["inlined_rows"]:
                notes.append(
                    f"{name} has {table['inlined_rows']:,} rows in the catalogue: stop its writers"
                    f" and run `dbt run-operation optimize --args '{{relation: {name},"
                    " alone: true}'` once"
                )
            else:
                actions.append(found)
        if table["expirable"] and _due(name, "expire", settings, history, now, table["version"]):
            actions.append(
                Action(
                    "expire",
                    name,
                    f"it has {table['versions']} versions, some older than "
                    f"{facts['keep_days']} days",
                    "files of old versions are removed",
                    0,
                    0,
                    settings["priority"],
                )
            )
    if facts["lake"] and (found := _expire(facts, history, now)):
        actions.append(found)
    actions.sort(key=lambda a: (a.table == LAKE, a.priority, -a.saves / (a.cost + 1), a.table))
    return Plan(actions, notes, len(facts["tables"]), int(facts["keep_days"]))


def settings_of(table: str, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What holds for a table: the narrower place wins, and in each place the project's own."""
    known = facts["defaults"]["all"]
    schema = table.split(".")[0]
    found: dict[str, Any] = dict(known)
    layers = {*facts["defaults"], *facts["own"]} - {"all"}
    layer = next((name for name in sorted(layers) if _is_layer(schema, name)), None)
    for key in ("all", layer):
        for source in (facts["defaults"], facts["own"]):
            if key and key in source:
                found |= source[key]
    if table in facts["models"]:
        found |= checked(facts["models"][table], known, f"meta: {{maintain: ...}} of {table}")
    return found


def checked(given: Any, known: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Settings as they are written, if they are known and of the right kind. Raises UserError."""
    if not isinstance(given, dict):
        raise UserError(f"{where} must be settings, such as {{target_mb: 128}}, not {given!r}.")
    for key, value in given.items():
        if key not in known:
            raise UserError(f"{where} has no setting '{key}'; there is {', '.join(known)}.")
        expected = known[key]
        if isinstance(expected, bool):
            right = isinstance(value, bool)
        elif isinstance(expected, list):
            right = isinstance(value, list) and all(isinstance(item, str) for item in value)
        else:
            right = (
                isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
            ) and (isinstance(value, int) or isinstance(expected, float))
        if not right or (key == "target_mb" and value < 1):
            raise UserError(f"{where}: {key} cannot be {value!r}; the default is {expected!r}.")
    return given


def _is_layer(schema: str, layer: str) -> bool:
    """`gold`, and what dbt makes of it in projects that keep dbt's names: `prod_gold`."""
    return schema == layer or schema.endswith(f"_{layer}")


def _rewrite(
    table: Mapping[str, Any], settings: Mapping[str, Any], history: Mapping[Any, Any]
) -> Action | None:
    """What writes a table's files anew: `cluster`, or `optimize`; None when it is well."""
    name, files, size = table["table"], table["files"], table["bytes"]
    target = settings["target_mb"] * 1_000_000
    # What the last run left cannot be made less: partitions, or rows too large.
    left = [
        history[name, verb]["files"] for verb in ("optimize", "cluster") if (name, verb) in history
    ]
    needed = max(1, math.ceil(size / target), min([*left, files]) if left else 1)
    excess = files - needed
    common: dict[str, Any] = {"priority": settings["priority"], "target_mb": settings["target_mb"]}
    if settings["cluster_by"] and size:
        share = table["new_bytes"] / size
        if share >= settings["cluster_share"]:
            by = list(settings["cluster_by"])
            return Action(
                *("cluster", name, f"{share:.0%} of it is not clustered by {', '.join(by)}"),
                *("filters on these skip files", size, max(excess, 0)),
                by=by,
                **common,
            )
    if excess >= settings["excess_files"]:
        share = table["small_files"] / files
        return Action(
            *("optimize", name, f"{files} files where {needed} would do, {share:.0%} are small"),
            *(f"a query opens {excess} files less", table["small_bytes"], excess),
            **common,
        )
    deleted = table["deleted_rows"] / table["rows"] if table["rows"] else 0
    if deleted >= settings["deleted_share"] > 0 or table["delete_files"] >= max(
        settings["excess_files"], 1
    ):
        return Action(
            *("optimize", name, f"{deleted:.0%} of the rows in its files are deleted"),
            f"a query reads {deleted:.0%} less, and opens {table['delete_files']} files less",
            *(table["dirty_bytes"], table["delete_files"]),
            **common,
        )
    if table["inlined_rows"] >= max(settings["inlined_rows"], 1):
        return Action(
            *("optimize", name, f"{table['inlined_rows']:,} rows are in the catalogue"),
            *("they become a file", 0, 0),
            **common,
        )
    return None


def _expire(facts: Mapping[str, Any], history: Mapping[Any, Any], now: datetime) -> Action | None:
    lake, days = facts["lake"], facts["keep_days"]
    settings = settings_of(f"{LAKE}.{LAKE}", facts)
    if not (lake["expirable"] or lake["removable_files"]):
        return None
    if not _due(f".{LAKE}", "expire", settings, history, now, None):
        return None
    reason = (
        f"{lake['expirable']} of {lake['versions']} versions are older than {days} days"
        if lake["expirable"]
        else f"{lake['removable_files']} files belong to no version"
    )
    gain = f"up to {lake['old_bytes'] / 1e6:,.1f} MB are freed"
    return Action("expire", LAKE, reason, gain, 0, 0, settings["priority"])


def _due(
    table: str,
    action: str,
    settings: Mapping[str, Any],
    history: Mapping[Any, Any],
    now: datetime,
    version: int | None,
) -> bool:
    """Whether enough days went by since the last time, and anything was written since."""
    last = history.get((table, action))
    if last is None:
        return True
    days = (now - datetime.fromisoformat(str(last["at"])[:19])).total_seconds() / 86_400
    return days >= settings["expire_every_days"] and (version is None or version != last["version"])
