"""A database's change table to bronze: `lakebed capture` of a file with `read: triggers`.

For a database whose log cannot be read. Triggers write each change into a table, in the transaction
that made it; the reader takes what was committed since, and deletes what is in the lake. Numbers do
not say what was committed (a lower one may come later), so the lake's position is a snapshot of
PostgreSQL's: which transactions it has seen, and read is what the next snapshot sees more.
Within a read the order is that of the numbers: who changes a row holds its lock until the commit.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import psycopg
from psycopg import sql

from lakebed.cdc.capture import CHANGES, LOG, Totals, write_changes
from lakebed.cdc.config import CaptureConfig
from lakebed.cdc.source import RESNAPSHOT, Connected, gone, no_other_way, record_of
from lakebed.errors import UserError
from lakebed.ingest.build import Builder
from lakebed.ingest.faults import Faults
from lakebed.ingest.records import Entity, Record
from lakebed.ingest.sinks import BatchSink

PATTERNS = ["pat-cdc-change-tables"]

#: What is installed. PostgreSQL's own JSON of a row, with times in UTC whoever writes. A change of
#: a primary key is a delete and an insert.
_INSTALL = """
create schema if not exists lakebed;
create table if not exists lakebed."{name}_changes" (
    id bigint generated always as identity primary key,
    transaction xid8 not null default pg_current_xact_id(),
    changed_at timestamptz not null default clock_timestamp(),
    table_name text not null,
    op text not null,
    before jsonb,
    after jsonb
);
create table if not exists lakebed."{name}_reader" (lake text not null, deleted pg_snapshot);
create or replace function lakebed."{name}_capture"() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp set timezone = 'UTC' set bytea_output = 'hex'
as $capture$
declare
    place text := tg_argv[0];
    was jsonb := case when tg_op in ('UPDATE', 'DELETE') then to_jsonb(old) end;
    becomes jsonb := case when tg_op in ('INSERT', 'UPDATE') then to_jsonb(new) end;
begin
    if tg_op = 'UPDATE' and exists (
        select from unnest(tg_argv[1:]) as key where was -> key is distinct from becomes -> key
    ) then
        insert into lakebed."{name}_changes" (table_name, op, before) values (place, 'd', was);
        insert into lakebed."{name}_changes" (table_name, op, after) values (place, 'c', becomes);
    else
        insert into lakebed."{name}_changes" (table_name, op, before, after) values (
            place,
            case tg_op
                when 'INSERT' then 'c' when 'UPDATE' then 'u' when 'DELETE' then 'd' else 't'
            end,
            was,
            becomes
        );
    end if;
    return null;
end
$capture$;
"""
_TRIGGERS = """
create or replace trigger "{trigger}" after insert or update or delete on {table}
for each row execute function lakebed."{name}_capture"({arguments});
create or replace trigger "{trigger}_truncate" after truncate on {table}
for each statement execute function lakebed."{name}_capture"({arguments});
alter table {table} enable always trigger "{trigger}";
alter table {table} enable always trigger "{trigger}_truncate";
"""
#: What a column's JSON becomes to look as Debezium writes it; of a type that is not here, nothing.
_TEXTS = {
    "numeric": "{doc} ->> {column}",
    "date": "({doc} ->> {column}) || 'Z'",
    "timestamp without time zone": "({doc} ->> {column}) || 'Z'",
    "timestamp with time zone": "replace({doc} ->> {column}, '+00:00', 'Z')",
    "time without time zone": "({doc} ->> {column}) || 'Z'",
    # In a row as JSON a NULL is JSON's null.
    "json": "nullif(({doc} -> {column})::text, 'null')",
    "jsonb": "nullif(({doc} -> {column})::text, 'null')",
    "bytea": "translate(encode(({doc} ->> {column})::bytea, 'base64'), E'\\n', '')",
}


@dataclass(frozen=True)
class State:
    """What the lake knows of the change table. `snapshot` is what it has seen, None while all
    tables are read; `until` the one that is being read, as far as `id`. `triggers` are theirs
    by table: one that was made anew was away."""

    database: str
    lake: str
    triggers: dict[str, int]
    snapshot: str | None = None
    until: str | None = None
    id: int = 0
    run: str = ""


@dataclass(frozen=True)
class _Table:
    """A table of the database, and what makes its rows look as Debezium writes them."""

    name: str
    keys: list[str]
    types: dict[str, str]

    @property
    def quoted(self) -> str:
        return ".".join(_identifier(part) for part in self.name.split("."))

    def document(self, doc: str) -> str:
        """SQL for the JSON `doc` of a row."""
        pairs = [
            f"{_literal(column)}, {_TEXTS[kind].format(doc=doc, column=_literal(column))}"
            for column, kind in self.types.items()
            if kind in _TEXTS
        ]
        # A function takes 100 arguments.
        parts = [pairs[at : at + 40] for at in range(0, len(pairs), 40)]
        return " || ".join([doc, *(f"jsonb_build_object({', '.join(part)})" for part in parts)])


@dataclass(frozen=True)
class ChangeTable(Connected):
    """The database of a capture by triggers. Its methods raise as Source's do."""

    @property
    def trigger(self) -> str:
        """The name of the tables' triggers."""
        return f"lakebed_{self.config.name}"

    @property
    def table(self) -> str:
        """The table of changes."""
        return f'lakebed."{self.config.name}_changes"'

    @property
    def reader(self) -> str:
        """The table that says who reads the changes, and what of them is deleted."""
        return f'lakebed."{self.config.name}_reader"'

    def install(self) -> None:
        """Make the table of changes and the triggers; what is there stays."""
        with self.connected() as connection, connection.transaction():
            connection.execute(_INSTALL.format(name=self.config.name).encode())
            for table in self.tables(connection):
                statements = _TRIGGERS.format(
                    name=self.config.name,
                    trigger=self.trigger,
                    table=table.quoted,
                    arguments=", ".join(map(_literal, [table.name, *table.keys])),
                )
                connection.execute(statements.encode())

    def uninstall(self) -> None:
        """Remove the triggers from every table, and the changes."""
        name = self.config.name
        with self.connected() as connection, connection.transaction():
            connection.execute(f'drop function if exists lakebed."{name}_capture" cascade'.encode())
            connection.execute(f"drop table if exists {self.table}, {self.reader}".encode())

    def tables(self, connection: psycopg.Connection[Any]) -> list[_Table]:
        """The tables of the file, as they are now."""
        found = []
        for name in self.config.tables:
            columns = connection.execute(
                "select a.attname, format_type(a.atttypid, null),"
                " a.attnum = any(coalesce(i.indkey::int2[], '{}'))"
                " from pg_attribute a join pg_class c on c.oid = a.attrelid"
                " join pg_namespace n on n.oid = c.relnamespace"
                " left join pg_index i on i.indrelid = c.oid and i.indisprimary"
                " where n.nspname = %s and c.relname = %s and c.relkind = 'r'"
                " and a.attnum > 0 and not a.attisdropped order by a.attnum",
                name.split("."),
            ).fetchall()
            if not columns:
                raise UserError(
                    f"{self.config.place} has no table {name} (of a partitioned one name the "
                    "partitions)."
                )
            keys = [column for column, _, key in columns if key]
            found.append(_Table(name, keys, {column: kind for column, kind, _ in columns}))
        return found

    def triggers(self, connection: psycopg.Connection[Any]) -> dict[str, int]:
        """The trigger of each table; of one that has none, or none that fires, none."""
        rows = connection.execute(
            "select n.nspname || '.' || c.relname, min(t.oid::bigint) from pg_trigger t"
            " join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace"
            " where t.tgname in (%s, %s) and t.tgenabled = 'A' group by 1 having count(*) = 2",
            (self.trigger, f"{self.trigger}_truncate"),
        ).fetchall()
        return {table: oid for table, oid in rows if table in self.config.tables}


class ChangeReader:
    """Reads the change table until `stop`, or with `once` what is committed now. The arguments are
    those of Capture."""

    def __init__(
        self,
        config: CaptureConfig,
        sink: BatchSink,
        say: Callable[[str], None],
        stop: threading.Event,
        faults: Faults,
        once: bool = False,
        resnapshot: bool = False,
        builder: Builder | None = None,
    ) -> None:
        self.config, self.sink, self.say, self.stop, self.faults = config, sink, say, stop, faults
        self.once, self.resnapshot, self.builder = once, resnapshot, builder
        self.source = ChangeTable(config)
        self.totals = Totals()
        self._token = uuid.uuid4().hex
        self._known = False

    def run(self) -> Totals:
        """Work. Raises UserError; and TryLater when the database is away for too long."""
        while not self.stop.is_set():
            read = self.sink.patience.persist(self._turn)
            if self.builder is not None:
                self.builder.turn(time.sleep, read)
            if self.once:
                break
            if not read:
                self.stop.wait(self.config.limits.age)
        if self.builder is not None:
            self.builder.turn(time.sleep, last=True)
        return self.totals

    def _place(self) -> tuple[int | None, State | None]:
        states = self.sink.states()
        no_other_way(states, LOG, self.config)
        held = states.get(CHANGES)
        return (None, None) if held is None else (held[0], State(**json.loads(held[1])))

    def _turn(self) -> bool:
        """Read what is committed now; whether there was something."""
        before = self.totals.rows + self.totals.rejected
        position, state = self._place()
        with self.source.connected() as connection:
            self._check(connection, state)
            if state is None or state.snapshot is None or self.resnapshot:
                position, state = self._snapshot(connection, position, state)
                self.resnapshot = False
            assert position is not None
            if state.until is not None:  # the last run was cut in between
                position, state = self._read(connection, position, state, state.until)
            now = connection.execute("select pg_current_snapshot()::text").fetchone()
            assert now is not None
            _, state = self._read(connection, position, state, now[0])
            self._delete(connection, state)
        return self.totals.rows + self.totals.rejected > before

    def _check(self, connection: psycopg.Connection[Any], state: State | None) -> None:
        """Whether the table has all changes since the lake's position."""
        place = self.config.place
        triggers = self.source.triggers(connection)
        if missing := [table for table in self.config.tables if table not in triggers]:
            raise UserError(
                f"{place}: {missing[0]} has no trigger of this capture, or a disabled one: "
                f"`lakebed capture --install` makes it. What changed without it is not known; if "
                f"it was captured before, {RESNAPSHOT}."
            )
        if state is None or state.snapshot is None or self.resnapshot:
            return
        if not self._known and self.source.identity() != state.database:
            raise UserError(
                f"{place} is not the database that the lake has read so far (restored, or another "
                f"server): what happened in between is not known. {RESNAPSHOT}."
            )
        self._known = True
        for table, trigger in triggers.items():
            if state.triggers.get(table) != trigger:
                raise UserError(
                    f"{place}: the trigger of {table} is not the one of the last run: what changed "
                    f"before it was made is not known. {RESNAPSHOT}."
                )
        row = connection.execute(
            "select lake, deleted is not null and"
            " (pg_snapshot_xmax(deleted) > pg_snapshot_xmax(held) or exists (select from"
            " pg_snapshot_xip(held) as seen where pg_visible_in_snapshot(seen, deleted)))"
            f" from {self.source.reader}, cast(%s as pg_snapshot) as held".encode(),
            (state.snapshot,),
        ).fetchone()
        if row is None or row[0] != state.lake or row[1]:
            raise UserError(
                f"{place}: another lake has read these changes, or this one before it was "
                f"restored, and what was read is deleted. Give each lake a `name` of "
                f"its own; {RESNAPSHOT}."
            )

    # --- reading -----------------------------------------------------------------------------

    def _snapshot(
        self, connection: psycopg.Connection[Any], position: int | None, state: State | None
    ) -> tuple[int, State]:
        """All tables as they are at one moment. One that is cut is made anew."""
        self.say("Reading all tables, then their changes.")
        lake = state.lake if state else self._token
        new = State(self.source.identity(), lake, self.source.triggers(connection))
        batch: list[tuple[Entity, Record]] = []
        if position:
            micros = time.time_ns() // 1000
            for name, entity in self.config.tables.items():
                at = position + len(batch)
                event = gone(self.config, name, at, micros)
                batch.append((entity, record_of(self.config, at, name, None, event)))
        position = self._write(batch, position, new)
        with connection.transaction():
            connection.execute("set transaction isolation level repeatable read, read only")
            connection.execute("set local timezone = 'UTC'")
            connection.execute("set local bytea_output = 'hex'")
            now = connection.execute("select pg_current_snapshot()::text").fetchone()
            assert now is not None
            for table in self.source.tables(connection):
                doc = table.document("to_jsonb(held)")
                query = (
                    f"select null, null, clock_timestamp(), {_literal(table.name)}, 'r', null,"
                    f" ({doc})::text from {table.quoted} as held"
                )
                with connection.cursor("lakebed") as cursor:
                    cursor.itersize = self.config.limits.rows
                    cursor.execute(query.encode())
                    for rows in _batches(cursor, self.config.limits.rows):
                        position = self._write(self._events(rows, [table], position), position, new)
        with connection.transaction():
            connection.execute(f"delete from {self.source.reader}".encode())
            connection.execute(
                f"insert into {self.source.reader} values (%s, null)".encode(), (lake,)
            )
        new = replace(new, snapshot=now[0])
        return self._write([], position, new), new

    def _read(
        self, connection: psycopg.Connection[Any], position: int, state: State, until: str
    ) -> tuple[int, State]:
        """The changes of all transactions that `until` sees and the lake has not, a batch at a
        time."""
        tables = self.source.tables(connection)
        cases = {
            side: " ".join(
                f"when {_literal(table.name)} then ({table.document(side)})::text"
                for table in tables
            ).replace("%", "%%")
            for side in ("before", "after")
        }
        query = (
            "select id, transaction::text, changed_at, table_name, op,"
            f" case table_name {cases['before']} end, case table_name {cases['after']} end"
            f" from {self.source.table} where id > %s"
            " and not pg_visible_in_snapshot(transaction, %s::pg_snapshot)"
            " and pg_visible_in_snapshot(transaction, %s::pg_snapshot)"
            " and table_name = any(%s) order by id limit %s"
        ).encode()
        names, limit = [table.name for table in tables], self.config.limits.rows
        while True:
            values = (state.id, state.snapshot, until, names, limit)
            rows = connection.execute(query, values).fetchall()
            if rows:
                self.faults.reach("received")
            if len(rows) < limit:
                new = replace(state, snapshot=until, until=None, id=0)
            else:
                new = replace(state, until=until, id=rows[-1][0])
            if not rows and state.until is None:
                # Nothing to write: the lake's position stays, and says the same.
                return position, state
            position = self._write(self._events(rows, tables, position), position, new)
            state = new
            if state.until is None:
                return position, state

    def _delete(self, connection: psycopg.Connection[Any], state: State) -> None:
        """What the lake has seen is not needed any more."""
        with connection.transaction():
            connection.execute(
                f"delete from {self.source.table}"
                " where pg_visible_in_snapshot(transaction, %s::pg_snapshot)".encode(),
                (state.snapshot,),
            )
            connection.execute(
                f"update {self.source.reader} set deleted = %s::pg_snapshot"
                " where deleted::text is distinct from %s".encode(),
                (state.snapshot, state.snapshot),
            )
        self.faults.reach("acknowledged")

    def _events(
        self, rows: Sequence[tuple[Any, ...]], tables: Sequence[_Table], position: int
    ) -> list[tuple[Entity, Record]]:
        """Events after Debezium's form. `lsn` counts them: that is the order in which they came."""
        by_name = {table.name: table for table in tables}
        found = []
        for at, (_, transaction, moment, name, op, before, after) in enumerate(rows, position):
            schema, table = name.split(".")
            micros = round(moment.timestamp() * 1_000_000)
            source = {
                "connector": "lakebed_triggers",
                "name": self.config.name,
                "snapshot": str(op == "r").lower(),
                "schema": schema,
                "table": table,
                "lsn": at,
                "txId": transaction and int(transaction),
                "ts_ms": micros // 1000,
                "ts_us": micros,
            }
            # The rows' JSON is PostgreSQL's: a number keeps all its digits.
            value = (
                f'{{"before": {before or "null"}, "after": {after or "null"},'
                f' "source": {json.dumps(source)}, "op": "{op}"}}'
            )
            key = None
            if (row := after or before) and by_name[name].keys:
                held = json.loads(row)
                keys = {each: held.get(each) for each in by_name[name].keys}
                key = json.dumps(keys, ensure_ascii=False, separators=(",", ":"))
            entity = self.config.tables[name]
            found.append((entity, record_of(self.config, at, name, key, value)))
        return found

    def _write(
        self, rows: Sequence[tuple[Entity, Record]], position: int | None, state: State
    ) -> int:
        state = replace(state, run=f"{self._token}.{self.totals.batches}")
        write_changes(
            self.sink, self.config, CHANGES, rows, position, state, self._place, self.totals
        )
        return (position or 0) + len(rows)


def _batches(rows: Any, size: int) -> Iterator[list[tuple[Any, ...]]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def _literal(text: str) -> str:
    return sql.quote(text)


def _identifier(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
