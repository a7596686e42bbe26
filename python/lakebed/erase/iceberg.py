"""The physical half of an erasure on Iceberg that SQL cannot do: files that no version has.

Its own clean-up leaves what is younger than a day, since somebody may be about to commit it, and
keeps the metadata files of old versions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping

from lakebed.errors import UserError
from lakebed.store import files_below, filesystem, remove_empty_folders


def folder(location: str) -> str:
    """Where a table is, on this machine or in the object store. Raises UserError when its files
    cannot be removed."""
    found = _place(location)
    # Of the file systems that Spark reaches these two are reached here.
    within_reach = "://" not in found or found.startswith("s3://")
    if not (within_reach and files_below(f"{found}/metadata")):
        raise UserError(
            f"{location} is no folder on this machine or in an S3 store, and old files of a table "
            "can be removed there only. Nothing was erased."
        )
    return found


def forget(tables: Mapping[str, Iterable[str]]) -> int:
    """Remove from the folder of each table what is not one of its files.

    Returns the number of files removed. Raises UserError, before it removes any of a table, when
    one of its files is elsewhere: what seems to be nobody's could be that one by another name.
    """
    removed = 0
    for location, files in tables.items():
        home = folder(location)
        kept, there = {_place(file) for file in files}, files_below(home)
        if elsewhere := sorted(kept.difference(there)):
            raise UserError(
                f"{elsewhere[0]} is a file of the table in {home} and not in that folder: its old "
                "files are left, and the request is not complete."
            )
        snapshots = {m[1] for file in kept if (m := re.search(r"/snap-(\d+)-[^/]*$", file))}
        holder, _ = filesystem(home)
        for file in there:
            if not _is_kept(file, kept, snapshots):
                holder.delete_file(file.removeprefix("s3://"))
                removed += 1
        remove_empty_folders(home, spare="_")
    return removed


def _is_kept(file: str, kept: Collection[str], snapshots: Collection[str]) -> bool:
    """Whether it is one of the table's files, or its checksum; statistics have the snapshot's name,
    and a catalogue without a server its own note of the newest version."""
    place, _, name = file.rpartition("/")
    if name.endswith(".crc"):
        name = name[1:].removesuffix(".crc")
    return (
        f"{place}/{name}" in kept
        or name == "version-hint.text"
        or any(each in name for each in snapshots)
    )


def _place(location: str) -> str:
    """Of a URI of Hadoop, which writes a path as it is: %20 is the name's own."""
    return re.sub(r"^s3a:", "s3:", re.sub(r"^file:/+", "/", location)).rstrip("/")
