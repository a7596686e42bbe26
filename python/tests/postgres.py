"""The sample's PostgreSQL, with what tests ask of it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from lakebed.errors import UserError
from lakebed.sample.postgres import Server
from lakebed.spark.settings import check_java


def need_capture() -> None:
    """Where Java cannot be had the test is skipped, in CI it fails."""
    try:
        check_java()
    except UserError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"No capture here. {error}")


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
