"""Work that an erasure must not meet (macros/engine/work.sql)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from lakebed.dbt import Project
from lakebed.project import SparkLake, open_target


@contextmanager
def at_work(project: Project, what: str) -> Iterator[None]:
    """No erasure begins meanwhile; on `local` the lake is one process's. `what` tells people who is
    at work.

    Raises UserError when an erasure has begun and not ended. Killed meanwhile, the next erasure is
    told that nothing runs.
    """
    lake = open_target(project.target, project.folder, project.profiles)
    if not (isinstance(lake, SparkLake) or lake.shared):
        yield
        return
    run = uuid.uuid4().hex
    project.operation("begin_work", {"run": run, "what": what})
    try:
        yield
    finally:
        project.operation("end_work", {"run": run})
