"""dbt-duckdb plugin: prepares each DuckDB connection of a dbt run.

Loads DuckLake (and PostgreSQL for the `team` target) from their PyPI packages,
so that no build depends on DuckDB's extension server; makes the folder that a new
lake's catalogue lies in; and says in one line why a lake cannot be opened.
"""

from __future__ import annotations

from typing import Any

import duckdb
from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError

from lakebed.erase.hashing import session_values
from lakebed.errors import explain
from lakebed.lake import catalogue_file, load_extensions


class Plugin(BasePlugin):  # type: ignore[misc]  # dbt-duckdb has no types
    """Named in profiles.yml: `plugins: [{module: lakebed.dbt_duckdb}]`."""

    def configure_connection(self, conn: Any) -> None:
        load_extensions(conn)
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
                conn.execute(f'detach "{attachment.alias}"')
            except duckdb.Error as error:
                raise DbtRuntimeError(explain(error) or str(error)) from None

    def configure_cursor(self, cursor: Any) -> None:
        # Values of a session: statements say their names, and the key is in no SQL and no log.
        for name, value in session_values().items():
            cursor.execute(f"set variable lakebed_erasure_{name} = '{value}'")
