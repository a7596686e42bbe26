"""The dbt project and its lake, as profiles.yml describes them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import yaml

from lakebed.errors import LakeLocked, UserError, explain
from lakebed.lake import catalogue_file, load_extensions
from lakebed.rendering import render_data
from lakebed.store import reach


@dataclass(frozen=True)
class Lake:
    """Where a target's lake is: its DuckLake path, and the name it is attached under."""

    target: str
    path: str
    alias: str
    #: As in profiles.yml; a relative data_path counts from the folder that dbt runs in.
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def exists(self) -> bool:
        file = catalogue_file(self.path)
        return file is None or file.exists()

    @property
    def place(self) -> str:
        """Where the catalogue is, fit to print: a connection string may hold a password."""
        return str(catalogue_file(self.path) or "PostgreSQL")

    @property
    def shared(self) -> bool:
        """Whether several processes can have it open at once; a catalogue file is for one."""
        return catalogue_file(self.path) is None

    @property
    def files(self) -> str:
        """Where its files are, as the profile says: a folder, or a place in an object store."""
        return str(self.options.get("data_path", ""))

    def prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Load what it takes to attach the lake, and to reach its files. Raises UserError."""
        load_extensions(connection, self.path)
        reach(connection, self.files)

    def attach(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Attach it for writing, as dbt does; a lake that is not there yet is made.

        Relative paths count from the working folder. Raises duckdb.Error.
        """
        if file := catalogue_file(self.path):
            file.parent.mkdir(parents=True, exist_ok=True)
        settings = ", ".join(
            f"{name} '{str(value).replace(chr(39), chr(39) * 2)}'"
            for name, value in self.options.items()
        )
        path = self.path.replace("'", "''")
        connection.execute(
            f"attach '{path}' as \"{self.alias}\"" + (f" ({settings})" if settings else "")
        )

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A read-only connection with the lake as its default catalogue, in UTC.

        Raises UserError when the lake is missing, locked or unreadable.
        """
        if not self.exists:
            raise UserError(
                f"There is no lake yet at {self.path.removeprefix('ducklake:')}: "
                "run `dbt build` first."
            )
        connection = duckdb.connect()
        try:
            self.prepare(connection)
            connection.execute("set timezone = 'UTC'")
            path = self.path.replace("'", "''")
            connection.execute(f"attach '{path}' as \"{self.alias}\" (read_only)")
            connection.execute(f'use "{self.alias}"')
        except duckdb.Error as error:
            connection.close()
            if LakeLocked.known(error):
                raise LakeLocked(explain(error) or str(error)) from error
            raise UserError(explain(error) or f"The lake cannot be opened: {error}") from error
        return connection


@dataclass(frozen=True)
class SparkLake:
    """A target whose tables are on Spark; `output` is what profiles.yml says of it."""

    target: str
    output: dict[str, Any]

    #: Tables are made when they are missed.
    exists = True

    @property
    def shared(self) -> bool:
        """Whether several processes can have it open at once; one holds a session's metastore."""
        return self.output.get("method") != "session"


def project_folder(folder: Path | None = None) -> Path:
    """The folder with dbt_project.yml: as given, DBT_PROJECT_DIR, or here or above."""
    start = folder or Path(os.environ.get("DBT_PROJECT_DIR") or Path.cwd())
    for candidate in [start, *([] if folder else start.resolve().parents)]:
        if (candidate / "dbt_project.yml").is_file():
            return candidate
    raise UserError(f"No dbt_project.yml in {start}: go to the project, or use --project-dir.")


def open_lake(
    target: str | None = None, folder: Path | None = None, profiles: Path | None = None
) -> Lake:
    """The lake of a target (DBT_TARGET or the profile's default when None). Raises UserError."""
    project = project_folder(folder)
    chosen, output = target_settings(project, profiles, target)
    for attachment in output.get("attach") or []:
        if str(attachment.get("path", "")).lower().startswith("ducklake:"):
            path = _anchored(str(attachment["path"]), project)
            options = attachment.get("options") or {}
            return Lake(chosen, path, attachment.get("alias") or "lakebed", options)
    raise UserError(f"Target '{chosen}' attaches no DuckLake; `lakebed` reads DuckLake lakes.")


def open_target(
    target: str | None = None, folder: Path | None = None, profiles: Path | None = None
) -> Lake | SparkLake:
    """The lake of a target of either engine. Raises UserError."""
    chosen, output = target_settings(project_folder(folder), profiles, target)
    if output.get("type") == "spark":
        return SparkLake(chosen, output)
    return open_lake(target, folder, profiles)


def profiles_folder(project: Path, folder: Path | None = None) -> Path:
    """The folder with profiles.yml: as given, DBT_PROFILES_DIR, the project's, or ~/.dbt."""
    given = folder or os.environ.get("DBT_PROFILES_DIR")
    for candidate in [Path(given)] if given else [project, Path.home() / ".dbt"]:
        if (candidate / "profiles.yml").is_file():
            return candidate
    if given:
        raise UserError(
            f"No profiles.yml in {given}: correct "
            f"{'--profiles-dir' if folder else 'DBT_PROFILES_DIR'}."
        )
    raise UserError(
        f"No profiles.yml in {project} or ~/.dbt: use --profiles-dir or DBT_PROFILES_DIR."
    )


def target_settings(
    project: Path, folder: Path | None, target: str | None
) -> tuple[str, dict[str, Any]]:
    """A target's name and its settings, rendered. Other targets are left alone, as in dbt: they
    may need variables that are not set here."""
    file = profiles_folder(project, folder) / "profiles.yml"
    settings = yaml.safe_load((project / "dbt_project.yml").read_text(encoding="utf-8"))
    profiles = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    name = settings.get("profile") or settings["name"]
    if name not in profiles:
        raise UserError(f"{file} has no profile '{name}'.")
    outputs = profiles[name].get("outputs") or {}
    default = render_data(profiles[name].get("target", "default"), file)
    chosen = target or os.environ.get("DBT_TARGET") or default
    if chosen not in outputs:
        raise UserError(
            f"The profile '{name}' has no target '{chosen}'; it has {', '.join(sorted(outputs))}."
        )
    return chosen, render_data(outputs[chosen], file)


def _anchored(path: str, project: Path) -> str:
    """A relative catalogue file counts from the project, as it does for dbt run there."""
    file = catalogue_file(path)
    if file is None or file.is_absolute():
        return path
    return f"ducklake:{project / file}"
