"""dbt-duckdb plugin: prepares each DuckDB connection of a dbt run.

Loads DuckLake (and PostgreSQL for the `team` target) from their PyPI packages,
so that no build depends on DuckDB's extension server; makes the folder that a new
lake's catalogue lies in; says in one line why a lake cannot be opened; and keeps the files of a
commit whose answer is lost (lakebed.keep).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import Any

import duckdb
from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError

from lakebed.erase.hashing import session_values
from lakebed.errors import UserError, explain
from lakebed.keep import Keeper, keeper_of, keeping
from lakebed.lake import catalogue_file, load_extensions
from lakebed.store import reach

#: What dbt sends, after its own comment.
COMMIT = re.compile(r"\s*(/\*.*?\*/\s*)*commit\s*;?\s*", re.IGNORECASE | re.DOTALL)
#: Lists files, then opens each; a writer that rolls back takes its own away in between.
LISTING, LISTINGS = "ducklake_delete_orphaned_files(", 20


class Plugin(BasePlugin):  # type: ignore[misc]  # dbt-duckdb has no types
    """Named in profiles.yml: `plugins: [{module: lakebed.dbt_duckdb}]`."""

    def configure_connection(self, conn: Any) -> None:
        attached = [attachment.path for attachment in self.creds.attach or []]
        load_extensions(conn, *attached)
        keepers = []
        try:
            for attachment in self.creds.attach or []:
                reach(conn, str((attachment.options or {}).get("data_path", "")))
        except UserError as error:
            raise DbtRuntimeError(str(error)) from None
        for attachment in self.creds.attach or []:
            catalogue = catalogue_file(attachment.path)
            if catalogue:
                try:
                    catalogue.parent.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise DbtRuntimeError(explain(error) or str(error)) from None
            # dbt attaches after this, and would answer a failure with a traceback.
            try:
                conn.execute(attachment.to_sql())
                if attachment.path.lower().startswith("ducklake:"):
                    keepers.append(keeper_of(conn, attachment.alias))
                conn.execute(f'detach "{attachment.alias}"')
            except duckdb.Error as error:
                raise DbtRuntimeError(explain(error) or str(error)) from None
        extend_cursor(keepers)

    def configure_cursor(self, cursor: Any) -> None:
        # Values of a session: statements say their names, and the key is in no SQL and no log.
        for name, value in session_values().items():
            cursor.execute(f"set variable lakebed_erasure_{name} = '{value}'")


def extend_cursor(keepers: list[Keeper | None]) -> None:
    """dbt-duckdb has no place for a plugin around a statement: so its cursor is extended."""
    plain: Callable[..., Any] = getattr(DuckDBCursorWrapper.execute, "__wrapped__", None) or (
        DuckDBCursorWrapper.execute
    )

    @wraps(plain)
    def execute(self: Any, sql: str, bindings: Any = None) -> Any:
        for _ in range(LISTINGS if LISTING in sql else 0):
            try:
                return plain(self, sql, bindings)
            except (duckdb.IOException, DbtRuntimeError) as error:
                if "No such file" not in str(error):
                    raise
        with ExitStack() as stack:
            for keeper in keepers if COMMIT.fullmatch(sql) else []:
                stack.enter_context(keeping(keeper))
            return plain(self, sql, bindings)

    DuckDBCursorWrapper.execute = execute
