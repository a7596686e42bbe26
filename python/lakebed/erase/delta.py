"""The physical half of an erasure on Delta that SQL cannot do: the log before its last checkpoint.

Commits and old checkpoints keep smallest and largest values of every file, and the conditions of
every DELETE. Delta's own clean-up keeps them for a day at least.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote, urlparse

from pyarrow.fs import FileSelector

from lakebed.errors import UserError
from lakebed.store import filesystem, remove_empty_folders

_VERSION = re.compile(r"^\.?(\d{20})\.")
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint\.")


def folder(location: str) -> str:
    """Where a table is, on this machine or in the object store. Raises UserError when its log
    cannot be cut."""
    url = urlparse(location)
    path = unquote(url.path)
    found = f"s3://{url.netloc}{path}" if url.scheme in ("s3", "s3a") else path
    if url.scheme not in ("", "file", "s3", "s3a") or not _names(f"{found}/_delta_log"):
        raise UserError(
            f"{location} is no folder on this machine or in an S3 store, and the old log of a "
            "table can be removed there only. Nothing was erased."
        )
    if _names(f"{found}/_delta_log/_sidecars"):
        raise UserError(
            f"{location}: its log has checkpoints of version 2, which erasure cannot cut: set "
            "delta.checkpointPolicy to classic. Nothing was erased."
        )
    return found


def forget(tables: Iterable[str]) -> int:
    """Remove what the log of each table says about versions before its last checkpoint.

    Returns the number of files removed.
    """
    removed = 0
    for place in tables:
        files, root = filesystem(place)
        names = _names(f"{place}/_delta_log")
        checkpoints = [int(found[1]) for name in names if (found := _CHECKPOINT.match(name))]
        # Oldest first: killed anywhere, what is left is the end of a log.
        for name in sorted(names, key=lambda name: name.lstrip(".")):
            found = _VERSION.match(name)
            if found and checkpoints and int(found[1]) < max(checkpoints):
                files.delete_file(f"{root}/_delta_log/{name}")
                removed += 1
        remove_empty_folders(place, spare="_")
    return removed


def _names(place: str) -> list[str]:
    """Of what is in a folder, or right below a place in the store."""
    files, root = filesystem(place)
    return [
        each.base_name for each in files.get_file_info(FileSelector(root, allow_not_found=True))
    ]
