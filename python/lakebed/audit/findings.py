"""What an audit finds, and the files that it looks at."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakebed.errors import UserError

#: Folders that hold other people's code, or what was made.
_SKIPPED = {"node_modules", "site-packages", "dbt_packages", "target", "build", "dist", "venv"}


@dataclass(frozen=True)
class Finding:
    """One place, what is wrong there, and the pattern that is the way out."""

    file: Path
    line: int
    rule: str
    severity: str
    message: str
    remedy: str

    @property
    def text(self) -> str:
        """For people and editors: file:line, and the rest."""
        return (
            f"{self.file}:{self.line}: {self.rule} ({self.severity}): {self.message} "
            f"Remedy: {self.remedy}."
        )


def files(paths: Sequence[Path], suffix: str) -> Iterator[Path]:
    """Files with a suffix, in order; hidden folders and those of packages are left out.

    Raises UserError for a path that there is not.
    """
    for path in paths:
        if path.is_file():
            if path.suffix == suffix:
                yield path
            continue
        if not path.is_dir():
            raise UserError(f"There is no {path}.")
        for folder, inside, names in os.walk(path):
            inside[:] = sorted(
                name for name in inside if name not in _SKIPPED and not name.startswith(".")
            )
            yield from (Path(folder) / name for name in sorted(names) if name.endswith(suffix))
