"""`lakebed audit`: the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def audit(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders; the working folder if absent.")
    ] = None,
) -> None:
    """Find what is regretted later; exit code 1 when there is something.

    So far: dual writes, in Python: functions that write to a database, and to a queue, a cache or a
    search index as well. `# lakebed: ignore dual-write: why` on a function's first line keeps it
    quiet.

    Example: lakebed audit src/
    """
    from lakebed.audit import dual_write
    from lakebed.audit.findings import files

    looked, found = 0, 0
    for file in files(paths or [Path()], ".py"):
        looked += 1
        for finding in dual_write.find(file):
            found += 1
            typer.echo(finding.text)
    typer.echo(f"{looked:,} Python files, {found:,} findings.", err=True)
    if found:
        raise typer.Exit(1)
