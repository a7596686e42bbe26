"""The sink: records and the positions they came from, in one transaction of the lake.

Whoever is killed whenever, both are there or neither. A stream has one table of positions, and its
first row is updated by every transaction, so that of two writers of one stream the later conflicts:
rows that are only appended would let both through. On `local` the catalogue's file is attached for
one batch and released; on `team` writers work side by side.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from lakebed.erase.postgres import erasing
from lakebed.erase.suppress import kept, kept_refused
from lakebed.errors import UserError
from lakebed.ingest.faults import Faults
from lakebed.ingest.metrics import Meter
from lakebed.ingest.patience import AMBIGUOUS, Patience, classify, held_by_erasure
from lakebed.ingest.records import Entity, Record, Rejected
from lakebed.ingest.tables import (
    BRONZE_COLUMNS,
    DECODED_COLUMNS,
    DLQ,
    DLQ_COLUMNS,
    MARK,
    Mark,
    bronze_columns,
    bronze_rows,
    dlq_rows,
    mark_rows,
    new_columns,
    still_open,
    utc_now,
    with_batch,
)
from lakebed.keep import Keeper, keeper_of, keeping
from lakebed.project import Lake

PATTERNS = ["pat-exactly-once", "pat-exactly-once-transactional-sinks"]

#: A partition of a topic.
Place = tuple[str, int]
#: For each partition the position the lake must have, and the next one. None: has none yet.
Moves = Mapping[Place, tuple[int | None, int]]

#: The row of a position table that every transaction updates; its position counts batches.
FENCE = "*"

#: The state of a fence while no batch is taken in.
HELD = "held"

#: Bytes of a batch that may be few rows inside DuckLake's catalogue; larger ones are files at once.
#: On `local` the catalogue is rewritten, and what lies in it decompressed, at each commit.
INLINED = 16 * 1024


class Fenced(Exception):
    """Another writer of the stream has moved its positions; nothing was written."""


@dataclass
class Sink:
    """Writes one stream into `lake`; `entities` are its bronze tables.

    `patience` says how long a busy lake is waited for. `repeatable`: the same positions are
    always the same records, as in Kafka; not so for webhooks, where they only count. Use it as a
    context: it closes the connection.
    """

    lake: Lake
    stream: str
    entities: Sequence[Entity]
    patience: Patience = field(default_factory=Patience)
    faults: Faults = field(default_factory=Faults)
    repeatable: bool = True
    meter: Meter = field(default_factory=Meter, init=False)
    _connection: duckdb.DuckDBPyConnection | None = field(default=None, init=False)
    _attached: bool = field(default=False, init=False)
    _ready: bool = field(default=False, init=False)
    _keeper: Keeper | None = field(default=None, init=False)

    @property
    def positions_table(self) -> str:
        return f"ops.positions__{self.stream}"

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    def positions(self) -> dict[Place, int]:
        """The next offset of each partition, as the lake has it; makes missing tables.

        Raises UserError and LakeLocked (see Patience.persist).
        """

        def ask() -> dict[Place, int]:
            with self.attached() as connection:
                return self.read_positions(connection)

        found = self.patience.persist(ask)
        return {place: position for place, position in found.items() if place[0] != FENCE}

    def write(
        self,
        rows: Mapping[Entity, Sequence[Record]],
        rejected: Sequence[Rejected],
        moves: Moves,
        states: Mapping[Place, str] | None = None,
        marks: Sequence[Mark] = (),
    ) -> None:
        """Write it all, or nothing. Waits for a busy lake. `states` is what a source that a
        number cannot place (an HTTP API) keeps with its positions; `marks` is what becomes of
        records of the DLQ.

        Records of a `repeatable` stream that are in the lake already, because the answer to a
        commit was lost or another writer was faster, are not written again. Raises Fenced when
        the lake's positions are not those expected, or a record of a mark is not.
        """
        self.patience.persist(lambda: self._attempt(rows, rejected, moves, states or {}, marks))
        self.meter.written(rows, rejected)
        self.faults.reach("committed")

    def _attempt(
        self,
        rows: Mapping[Entity, Sequence[Record]],
        rejected: Sequence[Rejected],
        moves: Moves,
        states: Mapping[Place, str],
        marks: Sequence[Mark],
    ) -> None:
        with self.attached() as connection, self.transaction(connection):
            held = self.read_positions(connection)
            there = all(held.get(place) == new for place, (_, new) in moves.items())
            if self.repeatable and there:
                return
            batch = _next(held, moves)
            if not still_open(self.query, marks):
                raise Fenced
            self.faults.reach("begun")
            size = sum(record.size for records in rows.values() for record in records)
            size += sum(refused.record.size for refused in rejected)
            setting = "ducklake_default_data_inlining_row_limit"
            connection.execute(f"set {setting} = 0" if size > INLINED else f"reset {setting}")
            now = utc_now()
            for entity, records in rows.items():
                insert_rows(connection, self.stream, entity, records, batch, now)
            self.faults.reach("rows-written")
            insert_rejected(connection, self.stream, rejected, now)
            if marks:
                with registered(connection, mark_rows(marks, now)) as name:
                    connection.execute(MARK.format(dlq=DLQ, marks=name))
            self.faults.reach("dlq-written")
            self._move(connection, moves, batch, now, states)
            self.faults.reach("positions-moved")

    def append(self, table: str, rows: pa.Table, moves: Moves, states: Mapping[Place, str]) -> None:
        """Append rows as they are, with the batch as `_batch_id`, to a table that is made for them
        and grows by columns that are new. All of it, or nothing.

        Raises Fenced, and UserError for a column of another type than the table's.
        """

        def attempt() -> None:
            with self.attached() as connection, self.transaction(connection):
                batch = _next(self.read_positions(connection), moves)
                self._move(connection, moves, batch, utc_now(), states)
                self.faults.reach("begun")
                _append(connection, table, with_batch(rows, batch))
                self.faults.reach("rows-written")

        self.patience.persist(attempt)
        self.faults.reach("committed")

    def read_positions(self, connection: duckdb.DuckDBPyConnection) -> dict[Place, int]:
        """All positions, the fence among them. Raises TryLater while an erasure holds streams."""
        found = connection.execute(
            f"select topic, partition, position, state from {self.positions_table}"
        ).fetchall()
        if any(topic == FENCE and state == HELD for topic, *_, state in found):
            raise held_by_erasure()
        return {(topic, partition): position for topic, partition, position, _ in found}

    def states(self) -> dict[Place, tuple[int, str]]:
        """Position and state of each place that has a state. Raises duckdb.Error: see Patience."""
        with self.attached() as connection:
            found = connection.execute(
                f"select topic, partition, position, state from {self.positions_table}"
                " where state is not null and topic <> ?",
                [FENCE],
            ).fetchall()
        return {(topic, part): (position, state) for topic, part, position, state in found}

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query in the words of both engines, `?` for a value. Times are in UTC, without
        a zone. The stream's tables are there while `attached`. Raises duckdb.Error: see Patience.
        """
        with self.attached(prepared=False) as connection:
            return connection.execute(sql, list(values)).fetchall()

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Change a table of the lake's own in one transaction. Raises duckdb.Error, also for one
        that another writer is changing: see Patience."""
        with self.attached(prepared=False) as connection, self.transaction(connection):
            connection.execute(sql, list(values))

    def columns(self, table: str) -> list[str]:
        """Names of a table's columns; none when it is not there. Raises duckdb.Error."""
        with self.attached(prepared=False) as connection:
            return columns_of(connection, table)

    def create(self, table: str, columns: Mapping[str, str]) -> None:
        """Make a table of `ops` unless it is there. Raises UserError when another one is."""
        with self.attached(prepared=False) as connection:
            connection.execute("create schema if not exists ops")
            create_table(connection, table, columns)

    def _move(
        self,
        connection: duckdb.DuckDBPyConnection,
        moves: Moves,
        batch: int,
        now: datetime,
        states: Mapping[Place, str],
    ) -> None:
        places = [(FENCE, 0, batch), *((*place, new) for place, (_, new) in moves.items())]
        moved = pa.table(
            {
                "topic": pa.array([place[0] for place in places], pa.string()),
                "partition": pa.array([place[1] for place in places], pa.int32()),
                "position": pa.array([place[2] for place in places], pa.int64()),
                "moved_at": pa.array([now] * len(places), pa.timestamp("us")),
                "state": pa.array([states.get(place[:2]) for place in places], pa.string()),
            }
        )
        with registered(connection, moved) as name:
            connection.execute(
                f"""
                merge into {self.positions_table} as held using {name} as moved
                on held.topic = moved.topic and held.partition = moved.partition
                when matched then update
                    set position = moved.position, moved_at = moved.moved_at, state = moved.state
                when not matched then insert (topic, partition, position, moved_at, state)
                    values (
                        moved.topic, moved.partition, moved.position, moved.moved_at, moved.state
                    )
                """
            )

    @contextmanager
    def attached(self, prepared: bool = True) -> Iterator[duckdb.DuckDBPyConnection]:
        """The lake, attached for writing, with the stream's tables unless `prepared` is False;
        released on `local`, by the outermost of those that are one in another."""
        connection = self._connection or self._connect()
        outermost = not self._attached
        try:
            if not self._attached:
                self.lake.attach(connection)
                connection.execute(f'use "{self.lake.alias}"')
                self._attached = True
                self._keeper = self._keeper or keeper_of(connection, self.lake.alias)
            if prepared and not self._ready:
                self._prepare(connection)
                self._ready = True
            yield connection
        except duckdb.Error as error:
            # The connection may be unusable after an error of the catalogue: take a new one.
            if classify(error) == AMBIGUOUS:
                self._abandon()
            else:
                self._close()
            raise
        finally:
            if outermost and self._attached and not self.lake.shared:
                connection.execute("use memory")
                connection.execute(f'detach "{self.lake.alias}"')
                self._attached = False

    @contextmanager
    def transaction(self, connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Commit at the end, roll back on an error."""
        connection.execute("begin")
        with ExitStack() as undo:
            undo.callback(self._roll_back, connection)
            yield
            with keeping(self._keeper):
                undo.pop_all()  # a commit that fails has rolled back
                connection.execute("commit")

    def _roll_back(self, connection: duckdb.DuckDBPyConnection) -> None:
        """What failed is why it is rolled back: without a catalogue this fails, too, in other words
        that say nothing."""
        try:
            connection.execute("rollback")
        except duckdb.Error:
            self._abandon()

    def _connect(self) -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        self.lake.prepare(connection)
        connection.execute("set timezone = 'UTC'")
        self._connection = connection
        return connection

    def _prepare(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the tables that are missing; one with other columns is somebody else's."""
        tables = {f"bronze.{entity.table}": bronze_columns(entity) for entity in self.entities} | {
            DLQ: DLQ_COLUMNS
        }
        for schema in ("bronze", "ops"):
            connection.execute(f"create schema if not exists {schema}")
        for table, columns in tables.items():
            found = columns_of(connection, table)
            if set(BRONZE_COLUMNS) <= set(found):  # a topic that becomes Avro, or dbt's own table
                for name in DECODED_COLUMNS:
                    if name in columns and name not in found:
                        kind = DECODED_COLUMNS[name]
                        connection.execute(
                            f"alter table {table} add column if not exists {name} {kind}"
                        )
            create_table(connection, table, columns)
        with self.transaction(connection):
            self._make_positions(connection)
        # After its positions are there: an erasure that begins now sees them, and holds the stream.
        if self.lake.shared and erasing(connection, self.lake):
            raise held_by_erasure()

    def _make_positions(self, connection: duckdb.DuckDBPyConnection) -> None:
        found = columns_of(connection, self.positions_table)
        if not found:
            connection.execute(
                f"create table {self.positions_table} (topic varchar, partition integer,"
                " position bigint, moved_at timestamp, state varchar)"
            )
            connection.execute(
                f"insert into {self.positions_table} values (?, 0, 0, ?, null)", [FENCE, utc_now()]
            )
        elif "state" not in found:  # of 0.1.0
            connection.execute(f"alter table {self.positions_table} add column state varchar")

    def move_fence(self, state: str | None) -> None:
        """Set the fence's state: a transaction that is under way does not see it, and conflicts.
        Raises duckdb.Error: see Patience."""
        with self.attached(prepared=False) as connection, self.transaction(connection):
            self._make_positions(connection)
            connection.execute(
                f"update {self.positions_table} set state = ? where topic = ?", [state, FENCE]
            )

    def _abandon(self) -> None:
        """Leave a connection whose catalogue was lost to itself, also when the process ends: to
        destroy a transaction that cannot be rolled back aborts the process now and then (seen with
        DuckDB 1.5.5). One is left for each time that the catalogue goes away."""
        if self._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))
            self._connection = None
        self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection, self._attached, self._ready = None, False, False


def hold(lake: Lake) -> None:
    """Let no stream of a shared lake write until `release`: one that is writing finds its fence
    moved, and waits. Held twice is held once. Raises UserError and LakeLocked."""
    _move_fences(lake, HELD)


def release(lake: Lake) -> None:
    """The end of `hold`. Raises UserError and LakeLocked."""
    _move_fences(lake, None)


def _move_fences(lake: Lake, state: str | None) -> None:
    known = (
        "select table_name from duckdb_tables() where database_name = ? and schema_name = 'ops'"
        " and starts_with(table_name, 'positions__') order by 1"
    )
    with Sink(lake, "", [], Patience(60)) as sink:
        for (name,) in sink.patience.persist(lambda: sink.query(known, [lake.alias])):
            sink.stream = name.removeprefix("positions__")
            sink.patience.persist(lambda: sink.move_fence(state))


@contextmanager
def registered(connection: duckdb.DuckDBPyConnection, table: pa.Table) -> Iterator[str]:
    """A name for an Arrow table inside DuckDB."""
    connection.register("lakebed_arrow", table)
    try:
        yield "lakebed_arrow"
    finally:
        connection.unregister("lakebed_arrow")


@dataclass(frozen=True)
class ConnectionReader:
    """The lake of a connection, in its transaction if it has one; asked as a sink is."""

    connection: duckdb.DuckDBPyConnection

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return self.connection.execute(sql, list(values)).fetchall()

    def columns(self, table: str) -> list[str]:
        return columns_of(self.connection, table)


def columns_of(connection: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Names of a table's columns; none when it is not there."""
    try:
        # Far cheaper on DuckLake than information_schema.
        rows = connection.execute(f"describe {table}").fetchall()
    except duckdb.CatalogException:
        return []
    return [row[0] for row in rows]


def create_table(
    connection: duckdb.DuckDBPyConnection, table: str, columns: Mapping[str, str]
) -> None:
    """Make a table unless it is there. Raises UserError when one with other columns is."""
    if found := columns_of(connection, table):
        if missing := [name for name in columns if name not in found]:
            raise UserError(
                f"The table {table} is not one of `lakebed stream`: it has no {missing[0]}. "
                "Give the stream another table."
            )
        return
    definition = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
    connection.execute(f"create table if not exists {table} ({definition})")


def insert_rows(
    connection: duckdb.DuckDBPyConnection,
    stream: str,
    entity: Entity,
    records: Sequence[Record],
    batch: int,
    now: datetime,
) -> None:
    """Insert records that were judged into their bronze table."""
    table = f"bronze.{entity.table}"
    records = kept(ConnectionReader(connection), table, records)
    _insert(connection, table, bronze_rows(stream, entity, records, batch, now))


def insert_rejected(
    connection: duckdb.DuckDBPyConnection, stream: str, rejected: Sequence[Rejected], now: datetime
) -> None:
    """Insert refused records into the DLQ, with their original bytes."""
    rejected = kept_refused(ConnectionReader(connection), DLQ, rejected)
    _insert(connection, DLQ, dlq_rows(stream, rejected, now))


def _next(held: Mapping[Place, int], moves: Moves) -> int:
    """The number of the next batch. Raises Fenced when the lake's positions are others."""
    if any(held.get(place) != expected for place, (expected, _) in moves.items()):
        raise Fenced
    return held[FENCE, 0] + 1


def _append(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    with registered(connection, rows) as name:
        fresh = _types(connection, name)
        columns = ", ".join(f'"{each}" {kind}' for each, kind in fresh.items())
        connection.execute(f"create table if not exists {table} ({columns})")
        for each, kind in new_columns(table, _types(connection, table), fresh).items():
            connection.execute(f'alter table {table} add column "{each}" {kind}')
        connection.execute(f"insert into {table} by name select * from {name}")


def _types(connection: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"describe {table}").fetchall()}


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    if not rows.num_rows:
        return
    with registered(connection, rows) as name:
        connection.execute(f"insert into {table} by name select * from {name}")
