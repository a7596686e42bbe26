"""The lake seen from Python: extensions, and connections as profiles.yml describes them."""

from __future__ import annotations

from pathlib import Path

import duckdb
from duckdb_extensions import import_extension


def load_extensions(connection: duckdb.DuckDBPyConnection, *paths: str) -> None:
    """Load DuckLake from its PyPI package into `connection`, and PostgreSQL's extension when one of
    the catalogues at `paths` is there.

    And no progress bar: where Python runs no file DuckDB takes it for a person at a prompt, and
    writes one into the output of whatever takes two seconds.
    """
    connection.execute("set enable_progress_bar = false")
    load_extension(connection, "ducklake")
    if any(path.lower().startswith("ducklake:postgres:") for path in paths):
        load_extension(connection, "postgres_scanner")


def load_extension(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Load one from its PyPI package. Raises ImportError when that is not installed."""
    try:
        connection.load_extension(name)
    except duckdb.Error:
        # Not yet in DuckDB's extension folder: put the packaged one there.
        import_extension(name)
        connection.load_extension(name)


def catalogue_file(path: str) -> Path | None:
    """The file behind a DuckLake path, None when the catalogue is a database server."""
    scheme, _, rest = path.partition(":")
    if scheme.lower() != "ducklake" or rest.lower().startswith(("postgres:", "mysql:")):
        return None
    return Path(rest.removeprefix("duckdb:"))
