"""From plain Parquet files to a table of the lake, while people read and write: a step at a time.

Readers have a view. It shows the files, then the table, then if need be the files again; each
change is one statement. The side that readers do not see follows the other one:
the table the files, file by file; the files the table, by its change feed. What is done is in
`ops.conversions` and `ops.conversion_files`, so that whatever was killed is simply run again.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from lakebed.convert.folders import (
    File,
    alone,
    check_schemas,
    checked_folder,
    listed,
    partition_path,
    partitions,
)
from lakebed.convert.state import Conversion, opened, read
from lakebed.dbt import Project, answer
from lakebed.errors import UserError
from lakebed.snapshots import beside, synced

PATTERNS = ["pat-format-migration"]

FORMATS = ("ducklake", "delta", "iceberg")
#: Files of one commit.
BATCH = 1000
_NAME = re.compile(r"\w+\.\w+")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Compared:
    """Every row of both sides compared; `problems` in words, none when they are the same."""

    version: int
    rows: int
    problems: list[str]


def start(
    project: Project, source: Path, view: str, to: str | None, replace_view: bool, tell: Tell
) -> None:
    """Make an empty table, and the readers' view of the files; then copy the files.

    A start that was killed is gone on with. Raises UserError, before anything is touched, for
    whatever stands in the way.
    """
    if not _NAME.fullmatch(view):
        raise UserError(f"'{view}' does not name a view: write schema.name, e.g. gold.sales.")
    if not source.exists() and _NAME.fullmatch(str(source)):
        raise UserError(
            f"{source} is no folder. A lake has one format, and the way to another is Parquet: "
            f"`lakebed convert publish {source} FOLDER` there, `start FOLDER {view}` here."
        )
    folder = checked_folder(source)
    with alone(folder):
        if (found := read(project, view)) is None:
            _begin(project, folder, view, to, replace_view)
        elif found.folder != folder:
            raise UserError(f"{view} is being converted already, from {found.folder}.")
    sync(project, view, False, tell)


def _begin(project: Project, folder: Path, view: str, to: str | None, replace_view: bool) -> None:
    if to is not None and to not in FORMATS:
        raise UserError(f"There is no format '{to}'; there is {', '.join(FORMATS)}.")
    files = listed(folder)
    columns = partitions(files)
    check_schemas(folder, files)
    made = answer(project.operation("convert_facts", {}))["format"]
    if to is not None and to != made:
        raise UserError(
            f"The tables of this lake are {made} tables, and a lake has one format: choose the "
            f"target (and LAKEBED_TABLE_FORMAT) of a lake for {to}."
        )
    arguments = {
        "id": uuid.uuid4().hex[:12],
        "view": view,
        "folder": str(folder),
        "stored_as": f"{view}__{made}",
        "partitions": columns,
    }
    project.operation(
        "convert_start",
        {
            "conversion": arguments,
            "files": [each.file for each in files],
            "replace": replace_view,
        },
    )


def sync(project: Project, view: str, recopy: bool, tell: Tell) -> None:
    """Bring the side that readers do not see up to date; `recopy` copies all files anew.

    Raises UserError for files that were changed, or rows that files cannot follow.
    """
    with opened(project, view) as found:
        _sync(project, found, recopy, tell)


def _sync(project: Project, found: Conversion, recopy: bool, tell: Tell) -> Conversion:
    state = found.moves()
    if found.readers == "table":
        if recopy:
            raise UserError(f"Readers of {found.view} see the table: it is not copied anew.")
        if state.broken:
            raise UserError(
                f"Since the cut-over of {found.view} these changed or vanished: "
                f"{_some(state.broken)}. Files that lack rows cannot follow: {found.way_out}"
            )
    elif state.broken and not recopy:
        raise UserError(
            f"Since the copy these changed or vanished: {_some(state.broken)}. Their rows cannot "
            f"be told apart from others: `lakebed convert sync {found.view} --recopy` copies all "
            "files anew, in one commit."
        )
    if recopy:
        found = _copy(project, found, listed(found.folder), True, tell)
    elif state.new:
        for number in range(0, len(state.new), BATCH):
            found = _copy(project, found, state.new[number : number + BATCH], False, tell)
    if found.readers == "table":
        return _follow(project, found, tell)
    if found.position is not None and not recopy:
        return _follow(project, found, tell, last=True)  # a roll-back was killed before this
    if not recopy and not state.new:
        tell(f"{found.stored_as} has all {len(found.known):,} files.")
    return found


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"{names[0]}{more}"


def _copy(
    project: Project, found: Conversion, files: list[File], whole: bool, tell: Tell
) -> Conversion:
    if not files:
        raise UserError(f"{found.folder} has no Parquet files.")
    if partitions(files) != found.partitions:
        raise UserError(
            f"{files[0].file} is not partitioned by {', '.join(found.partitions) or 'nothing'}, as "
            "the files were at the start."
        )
    others = (name for name in found.known if not Path(name).name.startswith(found.ours))
    like = next((name for name in others if (found.folder / name).exists()), None)
    check_schemas(found.folder, files, None if whole else like)
    project.operation(
        "convert_copy",
        {
            "conversion": found.arguments,
            "files": [asdict(each) for each in files],
            "batch": found.batch + 1,
            "whole": whole,
            "attempt": found.new_attempt(),
        },
    )
    size = sum(each.bytes for each in files)
    tell(f"copied to {found.stored_as}: {len(files):,} files, {size:,} bytes")
    batch, known = found.batch + 1, {} if whole else found.known
    known = known | {each.file: each for each in files}
    return replace(found, batch=batch, base=batch if whole else found.base, known=known)


def _follow(project: Project, found: Conversion, tell: Tell, last: bool = False) -> Conversion:
    """Write what came to the table to new files; after the `last` time the files lead again."""
    with beside(found.folder) as partial:
        made = answer(
            project.operation(
                "convert_follow", {"conversion": found.arguments, "folder": str(partial)}
            )
        )
        if made["gone"]:
            raise UserError(
                f"{made['gone']:,} rows of {found.stored_as} were deleted or updated since the "
                f"cut-over: files to which others are added cannot follow. {found.way_out}"
            )
        files = _placed(partial, found, made["parts"], found.folder)
    position = None if last else made["version"]
    if position != found.position:
        project.operation(
            "convert_followed",
            {
                "conversion": found.arguments,
                "files": [asdict(each) for each in files],
                "position": position,
            },
        )
    if made["rows"]:
        tell(f"{made['rows']:,} rows that came to {found.stored_as}: {len(files):,} new files")
    elif not last:
        tell(f"the files have all rows of {found.stored_as}")
    return replace(
        found,
        batch=found.batch + bool(files),
        position=position,
        known=found.known | {each.file: each for each in files},
    )


def _placed(
    partial: Path, found: Conversion, parts: list[list[str | None]], folder: Path
) -> list[File]:
    """Move the files that a macro wrote, a folder for each partition, to where they belong."""
    files, touched = [], {folder}
    for number, values in enumerate(parts):
        place = folder / partition_path(found.partitions, values)
        place.mkdir(parents=True, exist_ok=True)
        touched |= {place, place.parent}
        for path in sorted((partial / str(number)).glob("[!._]*.parquet")):
            new = place / f"{found.ours}{found.batch + 1}-{number}-{path.stem}.parquet"
            synced(path)
            path.rename(new)
            state = new.stat()
            name = str(new.relative_to(folder))
            files.append(File(name, state.st_size, state.st_mtime_ns))
    for place in touched:
        synced(place)
    return files


def validate(project: Project, view: str) -> Compared:
    """Compare the files that were copied with the table: columns, types, every row."""
    with opened(project, view) as found:
        return _compare(project, found)


def _compare(project: Project, found: Conversion) -> Compared:
    state = found.moves()
    if state.broken or state.new:
        new = [each.file for each in state.new]
        what = "changed or vanished since the copy" if state.broken else "not copied yet"
        raise UserError(
            f"{what}: {_some(state.broken or new)}. `lakebed convert sync {found.view}` first."
        )
    if found.readers == "files" and found.position is not None:
        raise UserError(
            f"A roll-back was killed at its end: `lakebed convert sync {found.view}` first, for "
            f"what was written to {found.stored_as} meanwhile."
        )
    answered = answer(
        project.operation(
            "convert_compare", {"conversion": found.arguments, "files": sorted(found.known)}
        )
    )
    return Compared(answered["version"], answered["rows"], list(_problems(answered)))


def _problems(answered: dict[str, Any]) -> Iterator[str]:
    for side, columns in zip(("files", "table"), answered["columns"], strict=True):
        if columns:
            yield f"columns only in the {side}: {', '.join(columns)}"
    if answered["same"] or any(answered["columns"]):
        return
    for one in answered["only"]:
        for part in one["partitions"]:
            yield f"{part['rows']:,} rows only in the {one['side']}, partition {part['of']}"
        if one["rows"]:
            yield f"{one['rows']:,} rows only in the {one['side']}, such as:"
            yield from (f"  {row}" for row in one["some"])
    if not any(one["rows"] for one in answered["only"]):
        yield "hashes that differ in rows that are equal: values that look the same, and are not"


def cut_over(project: Project, view: str, tell: Tell) -> Compared:
    """Let readers see the table, if it has every row. Raises UserError, and they see no change."""
    with opened(project, view) as found:
        if found.readers == "table":
            raise UserError(f"Readers of {view} see the table already.")
        compared = _same(project, found)
        _switch(project, found, "table", compared.version)
        # A file that came until readers saw the table.
        if late := found.moves().new:
            _copy(project, found, late, False, tell)
        return compared


def _same(project: Project, found: Conversion) -> Compared:
    compared = _compare(project, found)
    if compared.problems:
        raise UserError(
            f"The files and {found.stored_as} are not the same; readers of {found.view} go on "
            f"seeing the {found.readers}: {compared.problems[0].rstrip(':')}. `lakebed convert "
            f"validate {found.view}` says more."
        )
    return compared


def _switch(
    project: Project, found: Conversion, readers: str, position: int | None, **more: Any
) -> None:
    project.operation(
        "convert_switch",
        {"conversion": found.arguments, "readers": readers, "position": position, **more},
    )


def roll_back(project: Project, view: str, to: Path | None, tell: Tell) -> Compared:
    """Let readers see files again that have every row: those of before, or new ones in `to`.

    Raises UserError when the files of before cannot have them, and readers see no change.
    """
    with opened(project, view) as found:
        if found.published:
            raise UserError(f"{view} is a table, and never was anything else here: see `publish`.")
        if found.readers == "files":
            raise UserError(f"Readers of {view} see the files: there is nothing to roll back.")
        if to is None:
            found = _sync(project, found, False, tell)
            compared = _same(project, found)
            _switch(project, found, "files", compared.version)
            found = replace(found, readers="files", position=compared.version)
        else:
            found, compared = _move_back(project, found, to.absolute())
        # What a writer wrote to the table until readers saw the files again.
        _follow(project, found, tell, last=True)
        return compared


def _move_back(project: Project, found: Conversion, folder: Path) -> tuple[Conversion, Compared]:
    new, compared, version = _written(project, found, folder)
    files = [asdict(each) for each in new.known.values()]
    _switch(project, new, "files", version, files=files)
    batch = new.batch + 1
    return replace(new, readers="files", batch=batch, base=batch, position=version), compared


def publish(project: Project, table: str, folder: Path) -> Compared:
    """Write a table to files that follow it, for `start` in a lake of another format.

    From there on it is as after a cut-over: `sync` goes both ways. Raises UserError.
    """
    if not _NAME.fullmatch(table):
        raise UserError(f"'{table}' does not name a table: write schema.table, e.g. gold.sales.")
    if (there := read(project, table)) is not None:
        raise UserError(f"{table} is being converted already, with {there.folder}.")
    found = Conversion(uuid.uuid4().hex[:12], table, folder, table, [], readers="table")
    new, compared, version = _written(project, found, folder.absolute())
    files = [asdict(each) for each in new.known.values()]
    project.operation(
        "convert_published",
        {"conversion": new.arguments, "files": files, "position": version},
    )
    return compared


def _written(project: Project, found: Conversion, folder: Path) -> tuple[Conversion, Compared, int]:
    """All rows of the table in a new folder, compared; and the version that they are of."""
    if folder.exists():
        raise UserError(f"{folder} is there already: give a folder that is not.")
    with beside(folder) as partial:
        made = answer(
            project.operation(
                "convert_write_all", {"conversion": found.arguments, "folder": str(partial)}
            )
        )
        whole = partial / "all"
        whole.mkdir()
        _placed(partial, found, made["parts"], whole)
        whole.rename(folder)
    folder = checked_folder(folder)
    files = listed(folder)
    new = replace(found, folder=folder, known={each.file: each for each in files})
    try:
        compared = _same(project, new)
    except UserError:
        shutil.rmtree(folder)
        raise
    return new, compared, made["version"]


def finish(
    project: Project, view: str, delete_files: bool, drop_table: bool, after_days: int
) -> list[str]:
    """End a conversion, and let the side go that readers do not see, if that is asked for.

    Returns what was let go of, in words. Raises UserError.
    """
    with opened(project, view, resume=not drop_table) as found:
        if found.readers == "files" and (delete_files or not drop_table):
            raise UserError(
                f"Readers of {view} see the files. `cut-over` shows them the table; `finish "
                "--drop-table` gives the conversion up."
            )
        if found.readers == "table" and drop_table:
            raise UserError(f"Readers of {view} see the table: it is not dropped.")
        if delete_files:
            _check_deletion(project, found, after_days)
        arguments: dict[str, Any] = {"conversion": found.arguments, "drop_table": drop_table}
        project.operation("convert_finish", arguments)
        if drop_table:
            return [f"{found.stored_as} is dropped; readers of {view} see {found.folder}"]
        if not delete_files:
            return [f"{found.folder} is left as it is"]
        for name in found.known:
            (found.folder / name).unlink()
        return [f"{len(found.known):,} files of {found.folder} are deleted"]


def _check_deletion(project: Project, found: Conversion, after_days: int) -> None:
    facts = answer(project.operation("convert_facts", {}))
    now = datetime.fromisoformat(facts["now"][:19])
    assert found.cut_over_at is not None
    due = found.cut_over_at + timedelta(days=after_days)
    if now < due:
        raise UserError(
            f"The files of {found.view} are kept until {due}, {after_days} days after the cut-over "
            "(--after-days)."
        )
    state = found.moves()
    if state.new or state.broken:
        names = [each.file for each in state.new] + state.broken
        raise UserError(
            f"{_some(names)} came or changed after the cut-over: `sync` first; nothing was deleted."
        )
