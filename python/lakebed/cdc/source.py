"""What capture asks of PostgreSQL, and what must be right there before a change is read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from lakebed.cdc.config import CaptureConfig
from lakebed.errors import UserError
from lakebed.ingest.patience import TryLater
from lakebed.ingest.records import Record
from lakebed.ingest.sink import Place

#: The prefix of messages that capture writes into the log: they carry no data.
MARK = "lakebed"
#: How to begin anew.
RESNAPSHOT = "`lakebed capture --resnapshot` reads all tables anew"


@dataclass(frozen=True)
class Connected:
    """The database of a capture. Each call connects, asks and leaves.

    Its methods raise TryLater when the database does not answer, and UserError for what a person
    must mend.
    """

    config: CaptureConfig

    @contextmanager
    def connected(self) -> Iterator[psycopg.Connection[Any]]:
        at = self.config.connection
        try:
            with psycopg.connect(**at, autocommit=True, connect_timeout=10) as connection:  # type: ignore[arg-type]
                yield connection
        except psycopg.errors.InsufficientPrivilege as error:
            raise UserError(f"{self.config.place}: {_line(error)}.") from error
        except psycopg.OperationalError as error:
            raise TryLater(f"{self.config.place} does not answer ({_line(error)})") from error

    def identity(self) -> str:
        """Which database this is: a copy that was restored elsewhere has another log."""
        with self.connected() as connection:
            number = _one(connection, "select system_identifier from pg_control_system()")
            return f"{number}/{self.config.connection['dbname']}"


@dataclass(frozen=True)
class Source(Connected):
    """A database whose log is read."""

    def check(self) -> list[str]:
        """Whether the log can be read at all. Returns warnings."""
        warnings = []
        with self.connected() as connection:
            level = _one(connection, "select current_setting('wal_level')")
            if level != "logical":
                raise UserError(
                    f"{self.config.place} has wal_level={level}, and its log says too little: "
                    "`alter system set wal_level = logical`, then restart PostgreSQL."
                )
            for table in self.config.tables:
                schema, name = table.split(".")
                identity = _one(
                    connection,
                    "select c.relreplident::text from pg_class as c join pg_namespace as n"
                    " on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s",
                    (schema, name),
                )
                if identity is None:
                    raise UserError(f"{self.config.place} has no table {table}.")
                if identity != "f":
                    warnings.append(
                        f"{table}: the log does not say what a row was before a change, nor "
                        f"long values that did not change. `alter table {table} replica "
                        "identity full` mends it."
                    )
        return warnings

    def log_end(self, known: int) -> tuple[int, int]:
        """The end of the log, in bytes since its begin; and the time there, in microseconds. Not
        before `known`, up to where the lake has read: changes are put in order by their place."""
        with self.connected() as connection:
            row = connection.execute(
                f"select {_bytes('pg_current_wal_insert_lsn()')},"
                " extract(epoch from clock_timestamp()) * 1000000".encode()
            ).fetchone()
        assert row is not None
        if row[0] <= known:
            raise UserError(
                f"The log of {self.config.place} ends at {row[0]:,}, before the lake's position "
                f"({known:,}): what it says would be taken for older. Capture it under another "
                "`name`, into other tables."
            )
        return int(row[0]), int(row[1])

    def check_resumable(self, identity: str, known: int) -> None:
        """Whether the log still holds what comes after the lake's position, in bytes."""
        name, place = self.config.slot, self.config.place
        if self.identity() != identity:
            raise UserError(
                f"{place} is not the database that the lake has read so far (restored, or another "
                f"server): what happened in between is not known. {RESNAPSHOT}."
            )
        with self.connected() as connection:
            row = connection.execute(
                f"select wal_status, {_bytes('confirmed_flush_lsn')} from pg_replication_slots"
                " where slot_name = %s".encode(),
                (name,),
            ).fetchone()
            if row is None:
                raise UserError(
                    f"{place} has no replication slot {name} any more: changes since the lake's "
                    f"position are gone. {RESNAPSHOT}."
                )
            if row[0] == "lost":
                raise UserError(
                    f"{place} has removed the log that the slot {name} needs "
                    f"(max_slot_wal_keep_size): changes are gone. {RESNAPSHOT}."
                )
            if row[1] is not None and row[1] > known:
                raise UserError(
                    f"{place}: somebody has read the slot {name} further ({row[1]:,}) than this "
                    f"lake ({known:,}): another lake, or this one before it was restored. What "
                    f"lies between is gone. {RESNAPSHOT}."
                )
            published = self._published(connection)
        if missing := sorted(set(self.config.tables) - published):
            raise UserError(
                f"{place}: the publication {self.config.publication} does not have {missing[0]}: "
                f"its changes were not captured. {RESNAPSHOT}, this one too."
            )

    def check_slot(self, ours: bool) -> None:
        """Whether the slot's name is free, or it is this lake's own and nobody reads it."""
        name = self.config.slot
        with self.connected() as connection:
            active = _one(
                connection, "select active from pg_replication_slots where slot_name = %s", (name,)
            )
        if active is not None and not ours:
            raise UserError(
                f"{self.config.place} has a replication slot {name}, and this lake has not made "
                "it. Give the stream another `slot`, or drop it if nobody reads it: "
                f"`select pg_drop_replication_slot('{name}')`."
            )
        if active:
            raise TryLater(f"The replication slot {name} is still in use", failing=False)

    def begin(self) -> None:
        """Make ready for a snapshot: no slot, and a publication of exactly these tables."""
        with self.connected() as connection:
            connection.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots"
                " where slot_name = %s",
                (self.config.slot,),
            )
            wanted = set(self.config.tables)
            published = self._published(connection)
            tables = ", ".join(
                ".".join(f'"{part}"' for part in table.split(".")) for table in sorted(wanted)
            )
            publication = f'publication "{self.config.publication}"'
            if published != wanted:
                verb = f"alter {publication} set" if published else f"create {publication} for"
                try:
                    connection.execute(f"{verb} table {tables}".encode())
                except psycopg.errors.DuplicateObject:
                    connection.execute(f"alter {publication} set table {tables}".encode())

    def _published(self, connection: psycopg.Connection[Any]) -> set[str]:
        rows = connection.execute(
            "select schemaname || '.' || tablename from pg_publication_tables where pubname = %s",
            (self.config.publication,),
        )
        return {row[0] for row in rows.fetchall()}

    def busy(self) -> bool:
        """Whether somebody reads from the slot."""
        with self.connected() as connection:
            return bool(
                _one(
                    connection,
                    "select active from pg_replication_slots where slot_name = %s",
                    (self.config.slot,),
                )
            )

    def confirmed(self) -> int:
        """Up to where the slot knows the log as read, in bytes."""
        return self._place("confirmed_flush_lsn")

    def kept(self) -> int:
        """From where the slot keeps the log."""
        return self._place("restart_lsn")

    def _place(self, column: str) -> int:
        with self.connected() as connection:
            query = f"select {_bytes(column)} from pg_replication_slots"
            place = _one(connection, f"{query} where slot_name = %s", (self.config.slot,))
            return int(place or 0)

    def mark(self, text: str) -> None:
        """Write a message into the log. When it comes back, all that was before it was read."""
        with self.connected() as connection:
            connection.execute("select pg_logical_emit_message(true, %s, %s)", (MARK, text))

    def settings(self) -> dict[str, str]:
        """The engine's settings."""
        config, at = self.config, self.config.connection
        return {
            **({"database.sslmode": at["sslmode"]} if "sslmode" in at else {}),
            "poll.interval.ms": "50",
            "slot.retry.delay.ms": "1000",
            **config.debezium,
            "name": config.name,
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "plugin.name": "pgoutput",
            "topic.prefix": config.name,
            "database.hostname": at["host"],
            "database.port": at["port"],
            "database.user": at["user"],
            "database.password": at["password"],
            "database.dbname": at["dbname"],
            "slot.name": config.slot,
            "publication.name": config.publication,
            "publication.autocreate.mode": "disabled",
            "table.include.list": ",".join(
                table.replace(".", r"\.").replace("$", r"\$") for table in config.tables
            ),
            "snapshot.mode": "initial",
            "skipped.operations": "none",  # truncates, too
            "tombstones.on.delete": "false",
            "provide.transaction.metadata": "true",
            "decimal.handling.mode": "string",
            "time.precision.mode": "isostring",
            "binary.handling.mode": "base64",
            "interval.handling.mode": "string",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
            "max.batch.size": str(min(config.limits.rows, 4096)),
            "max.queue.size": "16384",
            "max.queue.size.in.bytes": str(64 * 1024 * 1024),
            # Capture itself begins anew, from what is in the lake.
            "errors.max.retries": "0",
            "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
            "offset.flush.interval.ms": "0",
        }


def gone(config: CaptureConfig, table: str, place: int, micros: int) -> str:
    """An event after Debezium's form: the table is to be read anew, what was known is void."""
    schema, name = table.split(".")
    source = {
        "connector": MARK,
        "name": config.name,
        "snapshot": "begun",
        "schema": schema,
        "table": name,
        "lsn": place,
        "ts_ms": micros // 1000,
        "ts_us": micros,
    }
    return json.dumps({"before": None, "after": None, "source": source, "op": "t"})


def record_of(
    config: CaptureConfig, offset: int, table: str, key: str | None, value: str
) -> Record:
    """An event of a table as a record for the sink."""
    sent = (json.loads(value).get("source") or {}).get("ts_ms") if value else None
    return Record(
        f"{config.name}.{table}",
        0,
        offset,
        None if key is None else key.encode(),
        value.encode(),
        [],
        sent,
    )


def no_other_way(states: Mapping[Place, object], other: Place, config: CaptureConfig) -> None:
    """Raises UserError when this stream was captured the `other` way: the places of the log and
    of the change table cannot be put in one order."""
    if other in states:
        raise UserError(
            f"{config.name} was captured from the {'log' if other[0] == 'log' else 'change table'} "
            "so far, and orders of both do not mix. Capture it under another `name`, into other "
            "tables."
        )


def _bytes(position: str) -> str:
    """SQL for a place in the log as a number."""
    return f"({position} - '0/0'::pg_lsn)"


def _one(connection: psycopg.Connection[Any], query: str, values: tuple[Any, ...] = ()) -> Any:
    row = connection.execute(query.encode(), values).fetchone()
    return None if row is None else row[0]


def _line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].rstrip(".")
