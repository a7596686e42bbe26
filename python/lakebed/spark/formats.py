"""What differs between table formats where a stream writes: a batch comes to a table once."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyarrow as pa

from lakebed.ingest.sink import FENCE
from lakebed.ingest.tables import batch_key
from lakebed.spark.arrow import zoned, zoned_time

PATTERNS = ["pat-exactly-once"]

#: Another writer was faster: the words of Spark, of Delta and of Iceberg.
CONFLICTS = (
    "TABLE_OR_VIEW_ALREADY_EXISTS",
    "FIELD_ALREADY_EXISTS",  # a column that both add
    "DELTA_CONCURRENT",
    "DELTA_METADATA_CHANGED",
    "DELTA_PROTOCOL_CHANGED",
    "DELTA_CREATE_TABLE_WITH_NON_EMPTY_LOCATION",  # is being made
    "is not empty and also not a Delta table",
    "MERGE_CARDINALITY_VIOLATION",  # the batch has come while this one looked
    "Found conflicting files",
    "Missing required files to delete",
    "Cannot determine history between starting snapshot",
    "has been modified concurrently",
    "the table has been concurrently modified",
    "CommitFailedException",
    "Cannot commit: ",
)


class Batch(NamedTuple):
    """A batch that a stream has accepted: its number, the name that Delta knows the stream's
    batches by, and the stream's table of positions."""

    number: int
    app: str | None
    positions: str


@contextmanager
def viewed(session: Any, table: pa.Table) -> Iterator[str]:
    """A name for an Arrow table in SQL."""
    name = f"lakebed_{uuid.uuid4().hex}"
    session.createDataFrame(table).createOrReplaceTempView(name)
    try:
        yield name
    finally:
        session.catalog.dropTempView(name)


def append_once(session: Any, table_format: str, name: str, rows: pa.Table, batch: Batch) -> None:
    """Append a batch's rows to a table, unless it has them. Raises what Spark raises."""
    append = {"delta": _append_to_delta, "iceberg": _append_to_iceberg}[table_format]
    append(session, name, rows, batch)


def _append_to_delta(session: Any, name: str, rows: pa.Table, batch: Batch) -> None:
    """Delta keeps the number of the last batch of an application, and skips one that it has."""
    (
        session.createDataFrame(zoned(rows))
        .coalesce(1)
        .write.format("delta")
        .mode("append")
        .option("txnAppId", f"lakebed/{batch.app}")
        .option("txnVersion", str(batch.number))
        .saveAsTable(name)
    )


def _append_to_iceberg(session: Any, name: str, rows: pa.Table, batch: Batch) -> None:
    """Appends to Iceberg never conflict, and it knows no batches. So this is a MERGE that might
    change rows of the batch: it fails where another writer has brought any since it looked. It
    brings nothing to a table that has such rows, nor when the stream has gone on: then it has had
    them, whatever an erasure or retention has removed since."""
    key = {column: zoned_time(rows[column][0].as_py()) for column in batch_key(name, rows)}
    columns = [f"`{column}`" for column in rows.column_names]
    first = next(iter(key))
    with viewed(session, zoned(rows)) as view:
        session.sql(
            f"""
            merge into {name} as held
            using (
                select * from {view}
                where exists (
                    select 1 from {batch.positions} where topic = '{FENCE}' and position = :number
                ) and not exists (
                    select 1 from {name} as there
                    where {" and ".join(f"there.{column} = :{column}" for column in key)}
                )
            ) as new
            on {" and ".join(f"held.{column} = :{column}" for column in key)}
            when matched then update set {first} = held.{first}
            when not matched then insert ({", ".join(columns)})
                values ({", ".join(f"new.{column}" for column in columns)})
            """,
            args={"number": batch.number, **key},
        ).collect()
