"""Options that many commands have: which project, which profiles, which target."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Target = Annotated[str | None, typer.Option(help="Target of profiles.yml; its default if absent.")]
ProjectDir = Annotated[Path | None, typer.Option(help="Folder with dbt_project.yml.")]
ProfilesDir = Annotated[Path | None, typer.Option(help="Folder with profiles.yml.")]
