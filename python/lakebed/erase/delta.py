"""The physical half of an erasure on Delta that SQL cannot do: the log before its last checkpoint.

Commits and old checkpoints keep smallest and largest values of every file, and the conditions of
every DELETE. Delta's own clean-up keeps them for a day at least.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlparse

from lakebed.errors import UserError

_VERSION = re.compile(r"^\.?(\d{20})\.")
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint\.")


def folder(location: str) -> Path:
    """The folder of a table. Raises UserError when its log cannot be cut."""
    url = urlparse(location)
    found = Path(unquote(url.path))
    if url.scheme not in ("", "file") or not (found / "_delta_log").is_dir():
        raise UserError(
            f"{location} is no folder on this machine, and the old log of a table can be "
            "removed on a file system only. Nothing was erased."
        )
    if any((found / "_delta_log").glob("_sidecars/*")):
        raise UserError(
            f"{location}: its log has checkpoints of version 2, which erasure cannot cut: set "
            "delta.checkpointPolicy to classic. Nothing was erased."
        )
    return found


def forget(tables: Iterable[Path]) -> int:
    """Remove what the log of each table says about versions before its last checkpoint.

    Returns the number of files removed.
    """
    removed = 0
    for folder in tables:
        log = folder / "_delta_log"
        checkpoints = [int(m[1]) for path in log.iterdir() if (m := _CHECKPOINT.match(path.name))]
        # Oldest first: killed anywhere, what is left is the end of a log.
        for path in sorted(log.iterdir(), key=lambda path: path.name.lstrip(".")):
            found = _VERSION.match(path.name)
            if found and checkpoints and int(found[1]) < max(checkpoints):
                path.unlink()
                removed += 1
        remove_empty(folder)
    return removed


def remove_empty(folder: Path) -> None:
    """Folders of partitions are named by values."""
    for path in sorted(folder.rglob("*"), key=lambda path: len(path.parts), reverse=True):
        inside = path.relative_to(folder).parts[0]
        if path.is_dir() and not inside.startswith("_") and not any(path.iterdir()):
            path.rmdir()
