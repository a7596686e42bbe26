"""What a source writes to, whichever engine the lake is on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from lakebed.ingest.faults import Faults
from lakebed.ingest.metrics import Meter
from lakebed.ingest.patience import Patience
from lakebed.ingest.records import Entity, Record, Rejected
from lakebed.ingest.sink import Moves, Place, Sink
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

    def last_schema(self, table: str, topic: str) -> str | None: ...

    def write(
        self,
        rows: Mapping[Entity, Sequence[Record]],
        rejected: Sequence[Rejected],
        moves: Moves,
        states: Mapping[Place, str] | None = None,
    ) -> None: ...


@contextmanager
def open_sink(
    lake: Lake | SparkLake,
    stream: str,
    entities: Sequence[Entity],
    patience: Patience,
    faults: Faults,
    repeatable: bool = True,
) -> Iterator[BatchSink]:
    """The sink of a stream, on whichever engine the lake is."""
    kind: Any = Sink
    if isinstance(lake, SparkLake):
        from lakebed.spark.sink import SparkSink

        kind = SparkSink
    with kind(lake, stream, entities, patience, faults, repeatable) as sink:
        yield sink
