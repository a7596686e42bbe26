"""The physical half of an erasure on Iceberg that SQL cannot do: files that no version has.

Its own clean-up leaves what is younger than a day, since somebody may be about to commit it, and
keeps the metadata files of old versions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from lakebed.errors import UserError
from lakebed.store import remove_empty_folders


def folder(location: str) -> str:
    """The folder of a table. Raises UserError when its files cannot be removed."""
    found = _path(location)
    if not Path(found, "metadata").is_dir():
        raise UserError(
            f"{location} is no folder on this machine, and old files of a table can be removed on "
            "a file system only. Nothing was erased."
        )
    return found


def forget(tables: Mapping[str, Iterable[str]]) -> int:
    """Remove from the folder of each table what is not one of its files.

    Returns the number of files removed. Raises UserError, before it removes any of a table, when
    one of its files is elsewhere: what seems to be nobody's could be that one by another name.
    """
    removed = 0
    for location, files in tables.items():
        home = Path(folder(location))
        kept = {_path(file) for file in files}
        for file in sorted(kept):
            if not (Path(file).is_relative_to(home) and Path(file).is_file()):
                raise UserError(
                    f"{file} is a file of the table in {home} and not in that folder: its old "
                    "files are left, and the request is not complete."
                )
        snapshots = {m[1] for file in kept if (m := re.search(r"/snap-(\d+)-[^/]*$", file))}
        for path in sorted(home.rglob("*")):
            if path.is_file() and not _is_kept(path, kept, snapshots):
                path.unlink()
                removed += 1
        remove_empty_folders(str(home), spare="_")
    return removed


def _is_kept(path: Path, kept: Collection[str], snapshots: Collection[str]) -> bool:
    """Whether it is one of the table's files, or its checksum; statistics have the snapshot's name,
    and a catalogue without a server its own note of the newest version."""
    if path.suffix == ".crc":
        path = path.with_name(path.name[1:].removesuffix(".crc"))
    return (
        str(path) in kept
        or path.name == "version-hint.text"
        or any(each in path.name for each in snapshots)
    )


def _path(location: str) -> str:
    """Of a URI of Hadoop, which writes a path as it is: %20 is the name's own."""
    return re.sub(r"^file:/+", "/", location)
