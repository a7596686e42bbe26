"""The physical half of an erasure on Iceberg that SQL cannot do: files that no version has.

Its own clean-up leaves what is younger than a day, since somebody may be about to commit it, and
keeps the metadata files of old versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from lakebed.erase.delta import remove_empty
from lakebed.errors import UserError


def folder(location: str) -> Path:
    """The folder of a table. Raises UserError when its files cannot be removed."""
    found = Path(_path(location))
    if not (found / "metadata").is_dir():
        raise UserError(
            f"{location} is no folder on this machine, and old files of a table can be removed on "
            "a file system only. Nothing was erased."
        )
    return found


def forget(tables: Mapping[str, Iterable[str]]) -> int:
    """Remove from the folder of each table what is not one of its files.

    Returns the number of files removed.
    """
    removed = 0
    for location, files in tables.items():
        kept = {_path(file) for file in files}
        snapshots = {m[1] for file in kept if (m := re.search(r"/snap-(\d+)-[^/]*$", file))}
        home = folder(location)
        for path in sorted(home.rglob("*")):
            checked = path.with_name(path.name[1:].removesuffix(".crc"))
            file = checked if path.suffix == ".crc" else path
            # Statistics of the present snapshot are named by it.
            ours = str(file) in kept or any(file.name.find(each) >= 0 for each in snapshots)
            if path.is_file() and not ours and path.name != "version-hint.text":
                path.unlink()
                removed += 1
        remove_empty(home)
    return removed


def _path(location: str) -> str:
    """Of a URI of Hadoop, which writes a path as it is: %20 is the name's own."""
    return re.sub(r"^file:/+", "/", location)
