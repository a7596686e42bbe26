"""Options that many commands have: which project, which profiles, which target."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lakebed.dbt import Project

Target = Annotated[str | None, typer.Option(help="Target of profiles.yml; its default if absent.")]
ProjectDir = Annotated[Path | None, typer.Option(help="Folder with dbt_project.yml.")]
ProfilesDir = Annotated[Path | None, typer.Option(help="Folder with profiles.yml.")]


def project_of(target: str | None, folder: Path | None, profiles: Path | None) -> Project:
    """The project that these options, and dbt's own variables, mean. Raises UserError."""
    from lakebed.dbt import Project
    from lakebed.project import project_folder

    chosen = target or os.environ.get("DBT_TARGET")
    return Project(project_folder(folder).resolve(), chosen, profiles)
