"""A conversion as the lake has it: `ops.conversions`, `ops.conversion_files`."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lakebed.convert.folders import File, Moves, alone, listed, moves
from lakebed.dbt import Project, answer
from lakebed.errors import UserError


@dataclass(frozen=True)
class Conversion:
    """A conversion as the lake has it. `readers` see the `files` or the `table`."""

    id: str
    view: str
    folder: Path
    stored_as: str
    partitions: list[str]
    readers: str
    #: Files of batches from `base` to `batch` are on both sides.
    batch: int = 0
    base: int = 1
    #: Of a step that was begun on Spark, and killed.
    open_step: str | None = None
    attempt: str | None = None
    begun: list[File] = field(default_factory=list)
    #: The version of the table up to which the files have its rows.
    position: int | None = None
    cut_over_at: datetime | None = None
    known: dict[str, File] = field(default_factory=dict)

    @property
    def published(self) -> bool:
        """Whether the files are for another lake: there is no view here that could show them."""
        return self.view == self.stored_as

    @property
    def way_out(self) -> str:
        """What to do when the files can follow the table no more."""
        if self.published:
            return f"`finish {self.view}`, and `publish` it to another folder."
        if self.readers == "files":
            return f"`sync {self.view} --recopy` puts the rows of the files in their place."
        return "`roll-back --to FOLDER` writes all rows to new ones."

    @property
    def arguments(self) -> dict[str, Any]:
        """What the macros take for a conversion."""
        names = ("id", "view", "stored_as", "partitions", "readers", "batch", "base")
        more = ("open_step", "attempt", "position")
        return {name: getattr(self, name) for name in names + more} | {"folder": str(self.folder)}

    @property
    def ours(self) -> str:
        """What the names of files begin with that follow the table."""
        return f"lakebed-{self.id}-"

    def new_attempt(self) -> str:
        """A name for an attempt to copy files, which no other has."""
        return f"{self.id}-{uuid.uuid4().hex[:12]}"

    def moves(self) -> Moves:
        """What became of the files since they were copied."""
        return moves(self.known, listed(self.folder))


def conversions(project: Project) -> list[Conversion]:
    """Those that are not finished, the oldest first."""
    facts = answer(project.operation("convert_facts", {}))
    return [found for row in facts["conversions"] if (found := read(project, row["view_name"]))]


def read(project: Project, view: str) -> Conversion | None:
    """The conversion of a view as the lake has it, none when there is none."""
    facts = answer(project.operation("convert_facts", {"view": view}))
    if not facts["conversions"]:
        return None
    row = facts["conversions"][0]
    batch, base = int(row["batch"]), int(row["base"])
    files = [(number, File(*rest)) for number, *rest in facts["files"]]
    return Conversion(
        id=row["id"],
        view=view,
        folder=Path(row["folder"]),
        stored_as=row["stored_as"],
        partitions=json.loads(row["partitions"]),
        readers=row["readers"],
        batch=batch,
        base=base,
        open_step=row["open_step"],
        attempt=row["attempt"],
        position=int(row["position"]) if row["position"] else None,
        cut_over_at=datetime.fromisoformat(row["cut_over_at"][:19]) if row["cut_over_at"] else None,
        known={each.file: each for number, each in files if base <= number <= batch},
        begun=[each for number, each in files if number == batch + 1],
    )


@contextmanager
def opened(project: Project, view: str, resume: bool = True) -> Iterator[Conversion]:
    """The conversion of a view, alone; with `resume` what was killed is brought to its end."""
    found = read(project, view)
    if found is None:
        raise UserError(f"{view} is not being converted: `lakebed convert start` begins.")
    with alone(found.folder):
        found = reread(project, view)
        if found.open_step and resume:
            _resume(project, found)
            found = reread(project, view)
        for each in listed(found.folder):
            if each.file not in found.known and Path(each.file).name.startswith(found.ours):
                (found.folder / each.file).unlink()  # never accounted for, and written again
        yield found


def reread(project: Project, view: str) -> Conversion:
    """The conversion of a view that had one a moment ago."""
    found = read(project, view)
    if found is None:
        raise UserError(f"{view} is not being converted any more.")
    return found


def _resume(project: Project, found: Conversion) -> None:
    if found.open_step == "start":
        more: dict[str, Any] = {"files": [each.file for each in listed(found.folder)]}
    elif found.open_step == "view":
        more = {}
    else:
        more = {
            "files": [asdict(each) for each in found.begun],
            "whole": found.open_step == "copy all",
            "attempt": found.new_attempt(),
        }
    project.operation("convert_resume", {"conversion": found.arguments, **more})
