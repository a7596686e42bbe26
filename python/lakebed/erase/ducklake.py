"""The physical half of an erasure on DuckLake: files, versions, and the catalogue itself.

A DELETE leaves the rows in the old files, in versions that time travel reads, in rows inlined in
the catalogue, in its statistics, and in its free pages. Each is dealt with here; every step may
be killed and run again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb

from lakebed import store
from lakebed.erase import postgres
from lakebed.erase.scan import Trace, in_tables
from lakebed.errors import LakeLocked, UserError, explain
from lakebed.keep import keeper_of
from lakebed.lake import catalogue_file
from lakebed.project import Lake
from lakebed.store import is_object_store

_FRESH = ".erasing"


def open_writer(lake: Lake) -> duckdb.DuckDBPyConnection:
    """A connection that may write. Raises UserError when there is no lake, or another holds it."""
    if not lake.exists:
        raise UserError(f"There is no lake yet at {lake.place}: run `dbt build` first.")
    connection = duckdb.connect()
    try:
        lake.prepare(connection)
        # Its files are where they were put when it was made: a relative path counts from there.
        options = {name: value for name, value in lake.options.items() if name != "data_path"}
        replace(lake, options=options).attach(connection)
        connection.execute(f'use "{lake.alias}"')
    except duckdb.Error as error:
        connection.close()
        if LakeLocked.known(error):
            raise LakeLocked(explain(error) or str(error)) from error
        raise UserError(explain(error) or f"The lake cannot be opened: {error}") from error
    return connection


def check(lake: Lake) -> None:
    """Raises UserError when the lake is another process's, or what follows is not permitted."""
    with open_writer(lake) as connection:
        if lake.shared:
            postgres.check(connection, lake)


def purge(lake: Lake, begun: datetime) -> int:
    """Leave nothing but the present rows; returns the number of data files removed.

    History before the erasure goes with it: time travel begins anew. In a shared lake files that
    no table has are removed if they are older than `begun`, since when nobody began to write rows.
    Raises UserError while PostgreSQL keeps old rows for somebody.
    """
    with open_writer(lake) as connection:
        if lake.shared:
            keeper_of(connection, lake.alias)  # brings back what a killed commit had put aside
        name = "'" + lake.alias.replace("'", "''") + "'"
        for step in (
            f"call ducklake_flush_inlined_data({name})",
            # 0: a file with a single deleted row is written again.
            f"call ducklake_rewrite_data_files({name}, delete_threshold => 0)",
            f"call ducklake_expire_snapshots({name}, older_than => timestamptz '9999-01-01')",
        ):
            connection.execute(step)
        removed = connection.execute(
            f"select * from ducklake_cleanup_old_files({name}, cleanup_all => true)"
        ).fetchall()
        old = "cleanup_all => true"
        if lake.shared:
            old = f"older_than => timestamptz '{begun.isoformat()}'"
        removed += connection.execute(
            f"select * from ducklake_delete_orphaned_files({name}, {old})"
        ).fetchall()
        _forget_bounds(connection, lake)
        data = data_place(connection, lake)
    store.remove_empty_folders(data)
    for path, *_ in removed:
        if not is_object_store(path):
            _remove_if_empty(Path(path).parent)
    if file := catalogue_file(lake.path):
        renew(file)
    else:
        with open_writer(lake) as connection:
            postgres.renew(connection, lake)
    return len(removed)


def _forget_bounds(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """A table's smallest and largest values only ever grow apart: those of no file are taken away.
    To DuckLake they are unknown then, which they may be."""
    catalogue = f'"__ducklake_metadata_{lake.alias}"'
    for bound in ("min_value", "max_value"):
        connection.execute(
            f"""
            update {catalogue}.ducklake_table_column_stats as held set {bound} = null
            where {bound} is not null and not exists (
                select 1 from {catalogue}.ducklake_file_column_stats as file
                where file.table_id = held.table_id and file.column_id = held.column_id
                    and file.{bound} = held.{bound}
            )
            """
        )


def renew(catalogue: Path) -> None:
    """The same catalogue in a new file, without the free pages that deleted values stay in."""
    fresh = catalogue.with_name(catalogue.name + _FRESH)
    for left in (fresh, Path(f"{fresh}.wal")):
        left.unlink(missing_ok=True)
    with duckdb.connect() as connection:
        # Attached for writing, and so locked until the new file stands in its place.
        connection.execute(f"attach '{_quoted(catalogue)}' as old")
        connection.execute("checkpoint old")
        # Some types of columns are not in every version; DuckLake chose one that has what it needs.
        ((version,),) = connection.execute(
            "select regexp_extract(tags['storage_version'], 'v[0-9.]+') from duckdb_databases()"
            " where database_name = 'old'"
        ).fetchall()
        connection.execute(f"attach '{_quoted(fresh)}' as fresh (storage_version '{version}')")
        connection.execute("copy from database old to fresh")
        connection.execute("detach fresh")
        with fresh.open("rb") as stream:
            os.fsync(stream.fileno())
        fresh.replace(catalogue)


def folders(lake: Lake) -> list[Path]:
    """Where the lake's bytes lie on this machine: the folder of its data, those of tiers, and its
    catalogue's."""
    with open_writer(lake) as connection:
        data = data_place(connection, lake)
        found = set() if is_object_store(data) else {Path(data).resolve()}
        # Files of tiers, and copies on their way there or back (lakebed/tiers.py).
        elsewhere = " union ".join(
            f'select path from "__ducklake_metadata_{lake.alias}".{table}'
            " where not path_is_relative"
            for table in ("ducklake_data_file", "ducklake_files_scheduled_for_deletion")
        )
        listed = [path for (path,) in connection.execute(elsewhere).fetchall()]
        paths = (Path(path) for path in listed if not is_object_store(path))
        found |= {path.parent.resolve() for path in paths if path.parent.is_dir()}
    if file := catalogue_file(lake.path):
        found.add(file.parent.resolve())
    return sorted(f for f in found if not any(f != g and f.is_relative_to(g) for g in found))


def traces(lake: Lake, values: Sequence[str]) -> list[Trace]:
    """Traces of any of `values` in a catalogue that is no file."""
    if not lake.shared:
        return []
    with open_writer(lake) as connection:
        return [
            Trace(f"PostgreSQL: {name}", "rows")
            for name, table in postgres.sources(connection, lake)
            if in_tables([table], values, connection)
        ]


def objects(lake: Lake) -> Iterator[tuple[str, Path]]:
    """Each object of a lake in an object store, with a copy: see `lakebed.store.objects`."""
    with open_writer(lake) as connection:
        place = data_place(connection, lake)
    return store.objects(place)


def data_place(connection: duckdb.DuckDBPyConnection, lake: Lake) -> str:
    """The folder of the lake's data files, or its place in an object store."""
    (path,) = connection.execute(
        f'select value from "__ducklake_metadata_{lake.alias}".ducklake_metadata'
        " where key = 'data_path' and scope is null"
    ).fetchone() or ("",)
    return str(path)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def _remove_if_empty(folder: Path) -> None:
    """A folder, and those that hold it: what was in a tier is not below the lake's folder."""
    with suppress(OSError):
        while not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent
