"""dbt-duckdb plugin: prepares each DuckDB connection of a dbt run.

Loads DuckLake (and PostgreSQL for the `team` target) from their PyPI packages,
so that no build depends on DuckDB's extension server, and makes the folder that a
new lake's catalogue lies in.
"""

from __future__ import annotations

from typing import Any

from dbt.adapters.duckdb.plugins import BasePlugin

from lakebed.lake import catalogue_file, load_extensions


class Plugin(BasePlugin):  # type: ignore[misc]  # dbt-duckdb has no types
    """Named in profiles.yml: `plugins: [{module: lakebed.dbt_duckdb}]`."""

    def configure_connection(self, conn: Any) -> None:
        load_extensions(conn)
        for attachment in self.creds.attach or []:
            catalogue = catalogue_file(attachment.path)
            if catalogue:
                catalogue.parent.mkdir(parents=True, exist_ok=True)
