"""What a source writes to, whichever engine the lake is on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import pyarrow as pa

from lakebed.ingest.faults import Faults
from lakebed.ingest.metrics import Meter
from lakebed.ingest.patience import Patience
from lakebed.ingest.records import Entity, Record, Rejected
from lakebed.ingest.sink import ConnectionReader, Moves, Place, Sink
from lakebed.ingest.tables import Mark
from lakebed.project import Lake, SparkLake


class BatchSink(Protocol):
    """What a source writes to: `Sink` on DuckLake, `lakebed.spark.sink.SparkSink` on Spark."""

    lake: Any
    stream: str
    entities: Sequence[Entity]
    patience: Patience
    meter: Meter

    def positions(self) -> dict[Place, int]: ...

    def states(self) -> dict[Place, tuple[int, str]]: ...

    def attached(self, prepared: bool = True) -> AbstractContextManager[Any]: ...

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None: ...

    def columns(self, table: str) -> list[str]: ...

    def create(self, table: str, columns: Mapping[str, str]) -> None: ...

    def write(
        self,
        rows: Mapping[Entity, Sequence[Record]],
        rejected: Sequence[Rejected],
        moves: Moves,
        states: Mapping[Place, str] | None = None,
        marks: Sequence[Mark] = (),
    ) -> None: ...

    def append(
        self, table: str, rows: pa.Table, moves: Moves, states: Mapping[Place, str]
    ) -> None: ...


class Reader(Protocol):
    """What a person's question is asked of."""

    def query(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]: ...

    def columns(self, table: str) -> list[str]: ...


@contextmanager
def open_sink(
    lake: Lake | SparkLake,
    stream: str,
    entities: Sequence[Entity],
    patience: Patience,
    faults: Faults | None = None,
    repeatable: bool = True,
) -> Iterator[BatchSink]:
    """The sink of a stream, on whichever engine the lake is."""
    kind: Any = Sink
    if isinstance(lake, SparkLake):
        from lakebed.spark.sink import SparkSink

        kind = SparkSink
    with kind(lake, stream, entities, patience, faults or Faults(), repeatable) as sink:
        yield sink


@contextmanager
def reading(lake: Lake | SparkLake) -> Iterator[Reader]:
    """The lake, for reading: nothing is made, and nobody waits for it. Raises UserError."""
    if isinstance(lake, SparkLake):
        from lakebed.spark.sink import SparkSink

        with SparkSink(lake, "reader", [], Patience(0)) as sink:
            yield sink
    else:
        with lake.connect() as connection:
            yield ConnectionReader(connection)
