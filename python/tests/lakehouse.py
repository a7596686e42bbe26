"""A whole lakehouse in a folder: land, build, ask. For tests of the reference models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
from lakebed.lake import load_extensions

REPO = Path(__file__).parents[2]
#: Layers whose tables must come out the same, whatever happened on the way.
LAYERS = ("bronze", "silver", "quarantine", "snapshots", "gold")


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
            "DBT_TARGET_PATH": str(self.home / "target"),
            "DBT_LOG_PATH": str(self.home / "logs"),
            "NO_COLOR": "1",
            **self.env,
        }

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command, cwd=REPO, env=self.environment(), capture_output=True, text=True, check=False
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
            )
        return done

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
        load_extensions(connection)
        path = self.env["LAKEBED_POSTGRES"]
        connection.execute(f"attach 'ducklake:postgres:{path}' as lakebed (read_only); use lakebed")
        return connection
