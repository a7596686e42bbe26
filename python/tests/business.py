"""The sample's subscription business, and the lake that follows its database."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from lakehouse import Lakehouse, TeamLakehouse
from postgres import Postgres
from streams import LAKEBED


class Business:
    """The application's database, and the lake that follows it. `team`: its catalogue is beside."""

    def __init__(self, home: Path, source: Postgres, team: bool = False) -> None:
        self.source = source
        env = {"LAKEBED_DOMAINS": "saas", "LAKEBED_SAAS_POSTGRES": source.url}
        if team:
            source.execute("create database lake")
            env["LAKEBED_TARGET"] = "team"
            env["LAKEBED_POSTGRES"] = source.url.removesuffix("/postgres") + "/lake"
        self.lakehouse = TeamLakehouse(home, env) if team else Lakehouse(home, env)

    def live(self, until: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["lakebed", "sample", "saas", "--until", until],
            env=self.lakehouse.environment(),
            stdout=subprocess.DEVNULL,
        )

    def capture(self, *options: str, file: str = "streams/saas.yml") -> None:
        self.lakehouse.run("lakebed", "capture", file, *(options or ("--once",)))

    def capturing(
        self, *options: str, output: int | IO[str] = subprocess.PIPE
    ) -> subprocess.Popen[str]:
        """Capture, and after it the models that read what it captures."""
        command = (*LAKEBED, "capture", "streams/saas.yml", "--build", "run")
        return subprocess.Popen(
            [*command, "--build-every", "0.5", *options],
            env=self.lakehouse.environment(),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def rows(self, table: str) -> tuple[list[Any], list[Any]]:
        """A table's rows in silver, and in the database."""
        columns = self.lakehouse.query(
            "select string_agg(column_name, ', ' order by column_index) from duckdb_columns()"
            f" where schema_name = 'silver' and table_name = 'saas__{table}'"
            " and not column_name[1] = '_'"
        )[0][0]
        self.source.execute("set timezone = 'UTC'")
        at = [f"{c} at time zone 'UTC'" if c.endswith("_at") else c for c in columns.split(", ")]
        truth = self.source.query(f"select {', '.join(at)} from app.{table}")
        found = self.lakehouse.query(f"select {columns} from silver.saas__{table}")
        return sorted(found, key=repr), sorted(truth, key=repr)

    def ledger(self) -> list[tuple[str, str, dict[str, Any], datetime]]:
        return [
            (entity, op, row, at.replace(tzinfo=None))
            for entity, op, row, at in self.source.query(
                "select entity, op, row, at at time zone 'UTC' from ledger.changes order by seq"
            )
        ]
