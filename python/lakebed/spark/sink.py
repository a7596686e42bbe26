"""The sink on Spark: one commit accepts a batch, and others deliver it, once.

Spark has no transaction over two tables. One MERGE into the stream's table of positions moves them
and takes in the batch itself; it conflicts with that of another writer, and whoever dies after it
leaves everything in the lake. Then the rows go to their tables, each in a commit that may be tried
again (lakebed.spark.formats). Whoever comes next delivers the last batch before it accepts another.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlparse

import pyarrow as pa

from lakebed.erase.suppress import kept, kept_refused
from lakebed.errors import UserError
from lakebed.ingest.faults import Faults
from lakebed.ingest.metrics import Meter
from lakebed.ingest.patience import Patience, TryLater, held_by_erasure
from lakebed.ingest.records import Entity, Record, Rejected
from lakebed.ingest.sink import FENCE, Fenced, Moves, Place
from lakebed.ingest.tables import (
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
from lakebed.project import SparkLake
from lakebed.spark.arrow import packed, plain, types, unpacked, zoned, zoned_time
from lakebed.spark.formats import CONFLICTS, Batch, append_once, viewed
from lakebed.spark.settings import (
    CATALOGUES,
    NOT_INSTALLED,
    connect_session,
    connect_url,
    other_format,
    session,
    spark_home,
    table_format,
)

PATTERNS = ["pat-exactly-once", "pat-exactly-once-transactional-sinks"]

_TYPES = {
    "varchar": "string",
    "integer": "int",
    "bigint": "bigint",
    "timestamp": "timestamp",
    "blob": "binary",
}
#: The table of a batch that are marks in the DLQ.
_MARKS = "marks"
#: Before the name that Delta knows batches by: no batch is taken in.
_HELD = "held:"
#: The position that a merge finds is not the one it was made for.
_FENCED = "lakebed: fenced"
#: The cluster is away, or has forgotten the session.
_AWAY = (
    "UNAVAILABLE",
    "failed to connect",
    "Connection refused",
    "INVALID_HANDLE",
    "Socket closed",
    "SESSION_CHANGED",
)

Result = TypeVar("Result")


@dataclass
class SparkSink:
    """Writes one stream into a lake on Spark, as `lakebed.ingest.sink.Sink` does into DuckLake.

    Use it as a context: it ends the session.
    """

    lake: SparkLake
    stream: str
    entities: Sequence[Entity]
    patience: Patience = field(default_factory=Patience)
    faults: Faults = field(default_factory=Faults)
    repeatable: bool = True
    meter: Meter = field(default_factory=Meter, init=False)
    _open: ExitStack = field(default_factory=ExitStack, init=False)
    _session: Any = field(default=None, init=False)
    _delivered: int | None = field(default=None, init=False)
    _ready: bool = field(default=False, init=False)

    @property
    def positions_table(self) -> str:
        return f"ops.positions__{self.stream}"

    def __enter__(self) -> SparkSink:
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()

    def positions(self) -> dict[Place, int]:
        """The next offset of each partition, as the lake has it; makes missing tables."""
        held = self._persist(self._held)
        return {place: position for place, (position, _) in held.items() if place[0] != FENCE}

    def states(self) -> dict[Place, tuple[int, str]]:
        """Position and state of each place that has a state. Raises TryLater: see Patience."""
        held = self._try(self._held)
        return {
            place: (position, state)
            for place, (position, state) in held.items()
            if place[0] != FENCE and state is not None
        }

    @contextmanager
    def attached(self, prepared: bool = True) -> Iterator[None]:
        """There is a session, and the stream's tables unless `prepared` is False."""
        self._try(self._connect if prepared else self._begin_session)
        yield

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query in the words of both engines, `?` for a value. Times are in UTC, without
        a zone. The stream's tables are there while `attached`. Raises UserError, TryLater."""

        def ask() -> list[tuple[Any, ...]]:
            self._begin_session()
            found = self._session.sql(sql, args=[zoned_time(value) for value in values]).toArrow()
            columns = [[plain(value) for value in column.to_pylist()] for column in found.columns]
            return list(zip(*columns, strict=True))

        return self._try(ask)

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Change a table in one commit. Raises UserError; and TryLater, also when another writer
        was faster."""
        self.query(sql, values)

    def columns(self, table: str) -> list[str]:
        """Names of a table's columns; none when it is not there. Raises UserError, TryLater."""

        def ask() -> list[str]:
            self._begin_session()
            there = self._session.catalog.tableExists(table)
            return list(self._session.table(table).columns) if there else []

        return self._try(ask)

    def create(self, table: str, columns: Mapping[str, str]) -> None:
        """Make a table of `ops` unless it is there. Raises UserError, TryLater."""

        def make() -> None:
            self._begin_session()
            self._session.sql("create schema if not exists ops")
            self._create(table, columns)

        self._try(make)

    def write(
        self,
        rows: Mapping[Entity, Sequence[Record]],
        rejected: Sequence[Rejected],
        moves: Moves,
        states: Mapping[Place, str] | None = None,
        marks: Sequence[Mark] = (),
    ) -> None:
        """Write it all, or nothing; see Sink.write. Raises Fenced."""
        accepted = self._persist(lambda: self._take(rows, rejected, moves, states or {}, marks))
        if accepted is not None:
            self._persist(lambda: self._deliver(*accepted))
        self.meter.written(rows, rejected)
        self.faults.reach("committed")

    def append(self, table: str, rows: pa.Table, moves: Moves, states: Mapping[Place, str]) -> None:
        """Append rows as they are; see Sink.append. Raises Fenced, UserError, TryLater."""

        def take() -> tuple[int, str | None, dict[str, pa.Table]]:
            batch, app = self._next(self._held(), moves)
            tables = {table: with_batch(rows, batch)}
            self._grow(table, tables[table])
            self._accept_batch(batch, app, tables, moves, states)
            return batch, app, tables

        accepted = self._persist(take)
        self._persist(lambda: self._deliver(*accepted))
        self.faults.reach("committed")

    def _next(
        self, held: Mapping[Place, tuple[int, str | None]], moves: Moves
    ) -> tuple[int, str | None]:
        """The number of the next batch, and what Delta knows it by. Raises Fenced, TryLater."""
        if any(held.get(p, (None,))[0] != expected for p, (expected, _) in moves.items()):
            raise Fenced
        last, app = held[FENCE, 0]
        if (app or "").startswith(_HELD):
            raise held_by_erasure()
        return last + 1, app

    def _accept_batch(
        self,
        batch: int,
        app: str | None,
        tables: Mapping[str, pa.Table],
        moves: Moves,
        states: Mapping[Place, str],
    ) -> None:
        self.faults.reach("begun")
        fence = {(FENCE, 0): (batch - 1, batch)}
        self._accept({**fence, **moves}, {(FENCE, 0): app, **states}, tables)
        self.faults.reach("positions-moved")

    def _grow(self, table: str, rows: pa.Table) -> None:
        """Make a table for rows, of which there are some, or add the columns that it has not."""
        fresh = types(self._session.createDataFrame(zoned(rows.slice(0, 1))))
        columns = ", ".join(f"`{name}` {kind}" for name, kind in fresh.items())
        self._session.sql("create schema if not exists bronze")
        self._session.sql(f"create table if not exists {table} ({columns}) using {table_format()}")
        for name, kind in new_columns(table, types(self._session.table(table)), fresh).items():
            self._session.sql(f"alter table {table} add columns (`{name}` {kind})")

    def _move_fence(self, mark: str) -> None:
        """Move the fence by an empty batch, after the delivery of the last one."""
        self._begin_session()
        self._ready = True  # a stream that has positions has its tables
        self._delivered = None
        held = self._held()
        if (FENCE, 0) in held:  # else it has never begun
            last, app = held[FENCE, 0]
            app = mark + (app or "").removeprefix(_HELD)
            self._accept({(FENCE, 0): (last, last + 1)}, {(FENCE, 0): app}, {})

    def _take(
        self,
        rows: Mapping[Entity, Sequence[Record]],
        rejected: Sequence[Rejected],
        moves: Moves,
        states: Mapping[Place, str],
        marks: Sequence[Mark],
    ) -> tuple[int, str | None, dict[str, pa.Table]] | None:
        """Accept a batch: what is to be delivered, None when the lake has it. Raises Fenced."""
        held = self._held()
        there = all(held.get(place, (None,))[0] == new for place, (_, new) in moves.items())
        if self.repeatable and there:
            return None
        batch, app = self._next(held, moves)
        if not still_open(self.query, marks):
            raise Fenced
        now = utc_now()
        tables = {DLQ: dlq_rows(self.stream, kept_refused(self, DLQ, rejected), now)}
        for entity, records in rows.items():
            name = f"bronze.{entity.table}"
            records = kept(self, name, records)
            tables[name] = bronze_rows(self.stream, entity, records, batch, now)
        tables = {name: table for name, table in tables.items() if table.num_rows}
        if marks:
            tables[_MARKS] = mark_rows(marks, now)
        self._accept_batch(batch, app, tables, moves, states)
        return batch, app, tables

    def _accept(
        self,
        moves: Moves,
        states: Mapping[Place, str | None],
        tables: Mapping[str, pa.Table],
    ) -> None:
        """Move positions and take the batch in: one commit. Raises Fenced."""
        now = utc_now()
        payload = [packed(tables) if place[0] == FENCE else None for place in moves]
        moved = pa.table(
            {
                "topic": pa.array([place[0] for place in moves], pa.string()),
                "partition": pa.array([place[1] for place in moves], pa.int32()),
                "expected": pa.array([expected for expected, _ in moves.values()], pa.int64()),
                "position": pa.array([new for _, new in moves.values()], pa.int64()),
                "moved_at": pa.array([now] * len(moves), pa.timestamp("us", "UTC")),
                "state": pa.array([states.get(place) for place in moves], pa.string()),
                "batch": pa.array(payload, pa.binary()),
            }
        )
        fenced = f"cast(raise_error('{_FENCED}') as bigint)"
        with viewed(self._session, moved) as view:
            self._session.sql(
                f"""
                merge into {self.positions_table} as held using {view} as moved
                on held.topic = moved.topic and held.partition = moved.partition
                when matched then update set
                    position = case
                        when held.position <=> moved.expected then moved.position else {fenced}
                    end,
                    moved_at = moved.moved_at, state = moved.state, batch = moved.batch
                when not matched then insert (topic, partition, position, moved_at, state, batch)
                    values (
                        moved.topic,
                        moved.partition,
                        case when moved.expected is null then moved.position else {fenced} end,
                        moved.moved_at,
                        moved.state,
                        moved.batch
                    )
                """
            ).collect()

    def _deliver(self, batch: int, app: str | None, tables: Mapping[str, pa.Table]) -> None:
        """Bring an accepted batch to its tables; what is there already stays as it is."""
        self._connect()
        for name, table in tables.items():
            if name in (DLQ, _MARKS):
                self.faults.reach("rows-written")
            if name == _MARKS:
                with viewed(self._session, zoned(table)) as view:
                    self._session.sql(MARK.format(dlq=DLQ, marks=view)).collect()
            else:
                append_once(
                    self._session,
                    table_format(),
                    name,
                    table,
                    Batch(batch, app, self.positions_table),
                )
        if not {DLQ, _MARKS} & tables.keys():
            self.faults.reach("rows-written")
        self.faults.reach("dlq-written")
        self._delivered = batch

    def _held(self) -> dict[Place, tuple[int, str | None]]:
        """Position and state of each place. The last batch is delivered when this returns."""
        self._connect()
        frame = self._session.table(self.positions_table)
        rows = frame.select("topic", "partition", "position", "state").collect()
        held = {(topic, part): (position, state) for topic, part, position, state in rows}
        batch, app = held.get((FENCE, 0), (None, None))
        if batch is not None and self._delivered != batch:
            found = frame.where(f"topic = '{FENCE}' and position = {batch}").select("batch")
            for (content,) in found.collect():
                if content is not None:
                    self._deliver(batch, app, unpacked(content))
            self._delivered = batch
        return held

    def _persist(self, action: Callable[[], Result]) -> Result:
        """The action's result, tried again as patience has it. Raises UserError, TryLater."""
        return self.patience.persist(lambda: self._try(action))

    def _try(self, action: Callable[[], Result]) -> Result:
        try:
            return action()
        except (UserError, TryLater, Fenced):
            raise
        except Exception as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> Exception:
        text = str(error)
        if _FENCED in text:
            return Fenced()
        line = " ".join(text.split())[:300]
        if any(words in text for words in CONFLICTS):
            return TryLater(f"Another writer was faster ({line})", failing=False)
        if any(words in text for words in _AWAY):
            self._close()
            return TryLater(f"Spark does not answer ({line})")
        module = type(error).__module__
        return UserError(f"Spark: {line}") if module.startswith("pyspark") else error

    # --- the session, and the tables -------------------------------------------------------

    def _connect(self) -> None:
        """A session, and the stream's tables."""
        self._begin_session()
        if not self._ready:
            self._prepare()
            self._ready = True

    def _begin_session(self) -> None:
        if self._session is not None:
            return
        wanted = table_format()
        with ExitStack() as opened:
            if self.lake.shared:
                where = urlparse(url := connect_url())
                try:
                    socket.create_connection((where.hostname, where.port or 15002), 5).close()
                except OSError as error:
                    raise TryLater(
                        f"No Spark Connect answers at {where.netloc} ({error.strerror or error}): "
                        "`lakebed spark up`, or set LAKEBED_SPARK_CONNECT"
                    ) from error
                try:
                    self._session = opened.enter_context(connect_session(url))
                except ImportError as error:
                    raise UserError(NOT_INSTALLED) from error
                opened.callback(setattr, self, "_session", None)
                found = self._session.conf.get("spark.sql.catalog.spark_catalog")
                for there, catalogue in CATALOGUES.items():
                    if found == catalogue and there != wanted:
                        raise other_format("The cluster", there, wanted)
            else:
                self._session = session(spark_home())
                opened.callback(setattr, self, "_session", None)
                opened.callback(self._session.stop)
            self._open = opened.pop_all()

    def _close(self) -> None:
        self._delivered, self._ready = None, False
        try:
            self._open.pop_all().close()
        except Exception:  # a session whose cluster is away cannot be ended
            self._session = None

    def _prepare(self) -> None:
        tables = {f"bronze.{entity.table}": bronze_columns(entity) for entity in self.entities} | {
            DLQ: DLQ_COLUMNS,
            self.positions_table: {
                "topic": "varchar",
                "partition": "integer",
                "position": "bigint",
                "moved_at": "timestamp",
                "state": "varchar",
                "batch": "blob",
            },
        }
        for schema in ("bronze", "ops"):
            self._session.sql(f"create schema if not exists {schema}")
        for name, columns in tables.items():
            self._create(name, columns)
            there = self._session.table(name).columns
            for column, kind in DECODED_COLUMNS.items():  # a topic that becomes Avro
                if "_record" in there and column in columns and column not in there:
                    self._session.sql(f"alter table {name} add columns ({column} {_TYPES[kind]})")
                    there.append(column)
            if missing := [column for column in columns if column not in there]:
                raise UserError(
                    f"The table {name} is not one of `lakebed stream`: it has no {missing[0]}. "
                    "Give the stream another table."
                )
        self._begin()

    def _create(self, table: str, columns: Mapping[str, str]) -> None:
        definition = ", ".join(f"`{column}` {_TYPES[kind]}" for column, kind in columns.items())
        self._session.sql(
            f"create table if not exists {table} ({definition}) using {table_format()}"
        )

    def _begin(self) -> None:
        """The fence, unless it is there. Batches count on from those that the tables have, and the
        name that Delta knows them by is new: that of a table which somebody dropped is used up."""
        if self._session.table(self.positions_table).where(f"topic = '{FENCE}'").count():
            return
        held = [f"select max(_batch_id) from bronze.{entity.table}" for entity in self.entities]
        counts = " union all ".join(["select cast(0 as bigint) as batch", *held])
        (last,) = self._session.sql(f"select coalesce(max(batch), 0) from ({counts})").first()
        app = f"{self.stream}/{uuid.uuid4().hex}"
        self._session.sql(
            f"""
            merge into {self.positions_table} as held using (select '{FENCE}' as topic) as new
            on held.topic = new.topic
            when matched then update set position = held.position  -- else Iceberg lets two in
            when not matched then insert (topic, partition, position, moved_at, state, batch)
                values ('{FENCE}', 0, {last}, current_timestamp(), '{app}', null)
            """
        ).collect()


def hold(lake: SparkLake, streams: Sequence[str]) -> None:
    """Deliver what streams have accepted, leave an empty batch in its place, and let no other be
    taken in until `release`: one that is under way finds the fence moved, and waits. Held twice is
    held once. Raises UserError."""
    _move_fences(lake, streams, _HELD)


def release(lake: SparkLake, streams: Sequence[str]) -> None:
    """The end of `hold`. Raises UserError."""
    _move_fences(lake, streams, "")


def _move_fences(lake: SparkLake, streams: Sequence[str], mark: str) -> None:
    with SparkSink(lake, "", [], Patience(60)) as sink:
        for stream in streams:
            sink.stream = stream
            try:
                sink._persist(lambda: sink._move_fence(mark))
            except TryLater as error:
                raise UserError(str(error)) from error
