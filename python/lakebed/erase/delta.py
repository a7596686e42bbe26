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
_CHECKPOINT = re.compile(r"^(\d{20})\.checkpoint\..*parquet$")


def folder(location: str) -> Path:
    """The folder of a table's location. Raises UserError when it is not on this machine."""
    url = urlparse(location)
    if url.scheme not in ("", "file"):
        raise UserError(
            f"{location}: the old log of a table can be removed on a file system only. The rows "
            "are erased; remove the entries of _delta_log before the last checkpoint, and run "
            "`lakebed erase verify`."
        )
    return Path(unquote(url.path))


def forget(locations: Iterable[str]) -> int:
    """Remove what the log of each table says about versions before its last checkpoint."""
    removed = 0
    for location in locations:
        log = folder(location) / "_delta_log"
        checkpoints = [int(m[1]) for path in log.iterdir() if (m := _CHECKPOINT.match(path.name))]
        if not checkpoints:
            continue
        # Newest last: a reader that started before finds the versions it still needs for longest.
        for path in sorted(log.iterdir(), key=lambda path: path.name.lstrip(".")):
            found = _VERSION.match(path.name)
            if found and int(found[1]) < max(checkpoints):
                path.unlink()
                removed += 1
    return removed
