"""The physical half of an erasure in a catalogue that is in PostgreSQL.

DuckLake's tables have smallest and largest values of each file, and PostgreSQL keeps old versions
of their rows, samples of them in its statistics, and old versions of those. Each table is written
anew when nobody can see the old rows any more. The write-ahead log is the server's
(docs/erasure.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import duckdb

from lakebed.errors import UserError
from lakebed.ingest.patience import Patience, TryLater
from lakebed.project import Lake

#: Seconds that sessions are given to end their transactions.
WAIT = 60.0
#: Where builds and erasures are written down: macros/engine/work.sql.
WORK = "lakebed_work_in_progress"

_MAY = """
select pg_has_role(datdba, 'USAGE'), current_user::text, current_database()::text
from pg_database where datname = current_database()
"""

_TABLES = """
select format('%I.%I', schema.nspname, relation.relname)
from pg_class as relation inner join pg_namespace as schema on relation.relnamespace = schema.oid
where relation.relkind = 'r' and relation.relname like 'ducklake\\_%' and schema.nspname = {schema}
order by 1
"""

#: Who may still see rows that were deleted before a transaction. A session that may not be looked
#: at, another role's, has nothing but its number there.
_KEEPING = """
select who from (
    select
        'session ' || pid || coalesce(' of ' || usename, '') as who,
        coalesce(backend_xmin, backend_xid) as oldest,
        backend_type is null as hidden
    from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()
    union all
    select 'replication slot ' || slot_name, xmin, false from pg_replication_slots
    union all
    select 'replication slot ' || slot_name, catalog_xmin, false from pg_replication_slots
    union all
    select 'standby server ' || coalesce(client_addr::text, ''), backend_xmin, false
    from pg_stat_replication
    union all
    select 'prepared transaction ' || gid, transaction, false
    from pg_prepared_xacts where database = current_database()
) as readers
where hidden or age(oldest) > age('{transaction}'::xid) order by 1 limit 1
"""


def check(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Raises UserError when `renew` would not be allowed to do it all."""
    ((may, role, database),) = ask(connection, lake, _MAY)
    if not may:
        raise UserError(
            "An erasure writes the statistics of PostgreSQL anew, which only the owner of the "
            f"database {database} may, and {role} is not: run it as the owner. Nothing was erased."
        )


def renew(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    """Write the catalogue's tables anew, without what was deleted.

    Raises UserError when somebody can see the old rows for longer than WAIT seconds.
    """
    # Else a statement looks for its function in the lake first, and waits for what that holds.
    connection.execute("use memory")
    _wait_for_readers(connection, lake)
    for table in tables(connection, lake):
        _do(connection, lake, f"vacuum (full, analyze) {table}")
    _wait_for_readers(connection, lake)
    _do(connection, lake, "vacuum full pg_catalog.pg_statistic")


def tables(connection: duckdb.DuckDBPyConnection, lake: Lake) -> list[str]:
    """DuckLake's own tables, as SQL."""
    return [name for (name,) in ask(connection, lake, _TABLES.format(schema=_schema(lake)))]


def sources(connection: duckdb.DuckDBPyConnection, lake: Lake) -> Iterator[tuple[str, str]]:
    """All that SQL can see of what the catalogue holds: names, and what to select from."""
    for table in tables(connection, lake):
        yield table, _query(lake, f"select * from {table}")
    statistics = (
        "select tablename::text, attname::text, most_common_vals::text, histogram_bounds::text,"
        f" most_common_elems::text from pg_stats where schemaname = {_schema(lake)}"
    )
    yield "pg_statistic", _query(lake, statistics)


def erasing(connection: duckdb.DuckDBPyConnection, lake: Lake) -> bool:
    """Whether an erasure has begun and not ended. Raises duckdb.Error."""
    ((there,),) = ask(connection, lake, f"select to_regclass('{WORK}') is not null")
    return there and bool(ask(connection, lake, f"select 1 from {WORK} where what = 'erasure'"))


def _wait_for_readers(connection: duckdb.DuckDBPyConnection, lake: Lake) -> None:
    ((now,),) = ask(connection, lake, "select pg_current_xact_id()::xid::text")

    def look() -> None:
        for (who,) in ask(connection, lake, _KEEPING.format(transaction=now)):
            raise TryLater(who)

    try:
        Patience(WAIT).persist(look)
    except TryLater as who:
        raise UserError(
            f"The rows are erased, but PostgreSQL keeps their old versions for its {who}: end it "
            "(another role's session can be looked at with the role pg_read_all_stats), and run "
            "the same command again."
        ) from None


def ask(connection: duckdb.DuckDBPyConnection, lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    """Rows of a query in PostgreSQL's own words."""
    return connection.execute(f"select * from {_query(lake, sql)}").fetchall()


def _do(connection: duckdb.DuckDBPyConnection, lake: Lake, sql: str) -> None:
    connection.execute(f"call postgres_execute({_arguments(lake, sql)})")


def _query(lake: Lake, sql: str) -> str:
    return f"postgres_query({_arguments(lake, sql)})"


def _arguments(lake: Lake, sql: str) -> str:
    return f"{_text(f'__ducklake_metadata_{lake.alias}')}, {_text(sql)}, use_transaction => false"


def _schema(lake: Lake) -> str:
    named = lake.options.get("metadata_schema")
    return _text(str(named)) if named else "current_schema()"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
