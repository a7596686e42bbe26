"""The sample's PostgreSQL, with what tests ask of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from lakebed.sample.postgres import Server


class Postgres(Server):
    """A server in `folder`; make one, `start` it, and `stop` it."""

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
