"""A whole lakehouse in a folder: land, build, ask. For tests of the reference models."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import warm
from lakebed.lake import load_extensions
from lakebed.store import reach

REPO = Path(__file__).parents[2]
#: Layers whose tables must come out the same, whatever happened on the way.
LAYERS = ("bronze", "silver", "quarantine", "snapshots", "gold")

_folder = tempfile.TemporaryDirectory(prefix="lakebed-parsed-")
PARSED = Path(_folder.name)


@dataclass
class Lakehouse:
    """Its landing folder, its lake and dbt's target folder lie in `home`."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    def environment(self) -> dict[str, str]:
        # A session by Spark Connect in pytest leaves a variable that turns dbt's own into one.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SPARK_")}
        return {
            **inherited,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "LAKEBED_HOME": str(self.home / "lake"),
            "LAKEBED_LANDING": str(self.landing),
            "DBT_PROFILES_DIR": str(REPO),
            "DBT_PROJECT_DIR": str(REPO),
            "DBT_TARGET_PATH": str(self.home / "target"),
            "DBT_LOG_PATH": str(self.home / "logs"),
            "NO_COLOR": "1",
            **self.env,
        }

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        environment = self.environment()
        done = warm.run(command, REPO, environment, self._parsed(command, environment))
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
            )
        return done

    def _parsed(self, command: tuple[str, ...], environment: dict[str, str]) -> Path:
        """Where lakehouses of the same target, variables and domains have the parsed project."""
        options = [*command[1:]]
        chosen = {
            name: options[options.index(name) + 1]
            for name in ("--target", "--vars")
            if name in options
        }
        settings = ("LAKEBED_TARGET", "LAKEBED_TABLE_FORMAT", "LAKEBED_DOMAINS")
        key = repr((chosen, [environment.get(name) for name in settings]))
        return PARSED / hashlib.sha256(key.encode()).hexdigest()

    def land(self, *options: str) -> None:
        self.run("lakebed", "sample", "retail", *options)

    def dbt(
        self, *arguments: str, as_of: str = "2018-02-01 00:00:00", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        command = ("dbt", *arguments, "--vars", json.dumps({"as_of": as_of}))
        done = self.run(*command, check=check)
        assert "deprecat" not in done.stdout.lower(), done.stdout
        return done

    def connect(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        load_extensions(connection)
        reach(connection, self.env.get("LAKEBED_STORE", ""))
        catalogue = self.home / "lake" / "catalog.ducklake"
        connection.execute(f"attach 'ducklake:{catalogue}' as lakebed (read_only); use lakebed")
        return connection

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with self.connect() as connection:
            return connection.execute(sql).fetchall()

    def hashes(self, exclude: tuple[str, ...] = ()) -> dict[str, tuple[int, str]]:
        """For each table of the layers its rows and an order-independent hash of them.

        `exclude` names columns to leave out, such as those that tell one batch from another.
        """
        found = {}
        with self.connect() as connection:
            tables = connection.execute(
                "select table_schema, table_name from information_schema.tables"
                " where table_catalog = 'lakebed' and table_type = 'BASE TABLE'"
            ).fetchall()
            for schema, table in sorted(tables):
                if schema not in LAYERS:
                    continue
                names = [
                    name
                    for (name,) in connection.execute(
                        "select column_name from information_schema.columns where table_catalog ="
                        " 'lakebed' and table_schema = ? and table_name = ? order by column_name",
                        [schema, table],
                    ).fetchall()
                    if name not in exclude
                ]
                columns = ", ".join(f'"{name}"' for name in names)
                row = connection.execute(
                    f"select count(*), cast(sum(hash(({columns}))::hugeint) as varchar)"
                    f" from {schema}.{table}"
                ).fetchone()
                assert row
                found[f"{schema}.{table}"] = row
        return found


class TeamLakehouse(Lakehouse):
    """A lakehouse whose catalogue is in PostgreSQL (the fixture `team`)."""

    def connect(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        path = f"ducklake:postgres:{self.env['LAKEBED_POSTGRES']}"
        load_extensions(connection, path)
        reach(connection, self.env.get("LAKEBED_STORE", ""))
        connection.execute(f"attach '{path}' as lakebed (read_only); use lakebed")
        return connection
