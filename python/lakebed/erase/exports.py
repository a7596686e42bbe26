"""The subject in exports, and in the archives of retention, which are exports.

The lake knows where they were written (`ops.exports`). What the policy does to a table is done to
its copies, whose manifest is written anew: their checksums change, and it says why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lakebed import snapshots
from lakebed.dbt import Project, answer
from lakebed.erase import policy
from lakebed.erase.policy import TablePlan
from lakebed.errors import UserError

DLQ = "ops.dlq"


@dataclass(frozen=True)
class Export:
    """A complete export of a table with a policy, or of the DLQ: `table` is None."""

    folder: Path
    table: TablePlan | None
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        return f"export {self.folder}"

    @property
    def deletes(self) -> bool:
        """Whether rows of the subject go whole; of the DLQ they do, as in the DLQ itself."""
        return self.table is None or self.table.delete

    def described(self) -> dict[str, Any]:
        """What the macros need of it."""
        return {
            "name": self.name,
            "folder": str(self.folder / snapshots.DATA),
            "table": asdict(self.table) if self.table else None,
            "columns": self.manifest["columns"],
            "rows": self.manifest["rows"],
        }

    def asks_for(self, keys: Iterable[str]) -> bool:
        """Whether the condition that it was made with names one of the keys."""
        where = str(self.manifest["where"] or "")
        return any(re.search(rf"(?<!\w){re.escape(key)}(?!\w)", where) for key in keys)


def find(
    project: Project,
    engine: str,
    tables: Sequence[TablePlan],
    others: Iterable[str],
    more: Sequence[Path],
) -> tuple[list[Export], list[str]]:
    """Exports of `tables`: those that the lake knows of, and `more`. And a line for each that was
    not looked into; `others` are tables (`schema.table`) that carry nothing of the subject.

    Raises UserError for one that is damaged, or was made by another engine.
    """
    noted = {Path(each["folder"]): each["table"] for each in snapshots.known(project)}
    for folder in more:
        noted.setdefault(folder.absolute(), "")
    plans: dict[str, TablePlan | None] = {DLQ: None}
    plans |= {f"{table.schema}.{table.identifier}".lower(): table for table in tables}
    free = {name.lower() for name in others} - set(plans)
    found, left = [], []
    for folder, table in sorted(noted.items()):
        snapshots.restore(folder)  # of an erasure that was killed
        if not folder.exists():
            if not table:
                raise UserError(f"{folder} is not there.")
            if table.lower() not in free:
                left.append(
                    f"{folder}, an export of {table}, is not there: deleted (`lakebed exports "
                    "--forget` it), moved (--export), or on another machine?"
                )
            continue
        manifest = snapshots.verify(folder)
        name = str(manifest["table"]).lower()
        if name in plans and manifest["engine"] != engine:
            raise UserError(
                f"{folder} is an export of {manifest['engine']}: erase it with a target of that."
            )
        if name in plans:
            found.append(Export(folder, plans[name], manifest))
        elif name not in free:
            left.append(f"{folder} is an export of {name}, which no model is, and has no policy.")
    return found, left


def refuse_erased(project: Project, folder: Path) -> None:
    """Raises UserError when an export has rows of people who were erased from the lake: it is a
    copy that no erasure knew of."""
    erased = answer(project.operation("erased_kinds", {}))["kinds"]
    if not erased:
        return
    manifest, models = snapshots.verify(folder), project.manifest()
    for subject in sorted(set(erased) & set(policy.kinds(models))):
        for table in policy.plan(models, subject):
            if f"{table.schema}.{table.identifier}".lower() != manifest["table"].lower():
                continue
            arguments = {"subject": subject, "export": Export(folder, table, manifest).described()}
            found = answer(project.operation("erased_rows_in_export", arguments))
            if found["rows"]:
                raise UserError(
                    f"{folder} has {found['rows']:,} rows of a {subject} who was erased from this "
                    f"lake: `lakebed erase run {subject} ... --export {folder}` with the keys of "
                    "that request first. Nothing was imported."
                )


def rewrite(
    project: Project, export: Export, keys: Sequence[str], key_type: str, request_id: str
) -> None:
    """Write an export without the subject, in the place of the old one. Raises UserError."""

    def write(folder: Path) -> dict[str, Any]:
        arguments = {"export": export.described(), "folder": str(folder), "key_type": key_type}
        new = answer(project.operation("erase_export", arguments, keys))
        return {**new, "where": "erased" if export.asks_for(keys) else export.manifest["where"]}

    snapshots.rewrite(export.folder, write, f"erasure {request_id}")
