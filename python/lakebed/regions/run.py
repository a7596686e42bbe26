"""Regional lakes into a central one, each row once, and nothing that may not leave.

A table of a region is read by its batches. What is selected there is masked there, in a connection
that knows the region only; the central lake's connection gets the result. Its rows, and the
position of the region and table, are one transaction of the central lake, fenced as a stream's is:
killed anywhere, or run twice at once, each row is there once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa

from lakebed.erase.hashing import key_id
from lakebed.errors import LakeLocked, UserError, explain
from lakebed.ingest.faults import Faults
from lakebed.ingest.patience import Patience, TryLater
from lakebed.ingest.sink import Fenced, Place, columns_of
from lakebed.ingest.sinks import BatchSink, open_sink, reading
from lakebed.ingest.tables import utc_now
from lakebed.project import Lake, SparkLake
from lakebed.regions.config import Region, Regions, Shipment
from lakebed.regions.mask import column, set_key

PATTERNS = ["pat-multi-region-ingest"]

BATCH = "_batch_id"
#: Rows of a transaction. On Spark its batch is one value of a table, too.
ROWS, ROWS_ON_SPARK = 500_000, 50_000


@dataclass(frozen=True)
class Delivery:
    """What one region has of one table that the central lake has not: rows, and their batches up to
    `until`. `trouble` says why it cannot go."""

    region: str
    table: str
    rows: int = 0
    batches: int = 0
    until: int | None = None
    trouble: str = ""


@dataclass
class Consolidation:
    """`regions` into `lake`. `rows` bounds a transaction, but for one batch that is larger.

    `new_key`: go on although a region's key is another one than before.
    """

    regions: Regions
    lake: Lake | SparkLake
    patience: Patience = field(default_factory=Patience)
    faults: Faults = field(default_factory=Faults)
    rows: int = ROWS
    new_key: bool = False

    def plan(self, only: Sequence[str] = ()) -> Iterator[Delivery]:
        """What would go, and what could not; changes nothing in any lake."""
        held = self._held_readonly()
        yield from self._each(only, lambda region, each: self._waiting(region, each, held))

    def run(self, only: Sequence[str] = ()) -> Iterator[Delivery]:
        """Bring it. A region that is away, or a table that may not go, holds up no other."""
        name = self.regions.name
        with open_sink(self.lake, name, [], self.patience, self.faults, False) as sink:

            def bring(region: Region, each: Shipment) -> Delivery:
                return self._bring(sink, region, each)

            try:
                yield from self._each(only, bring)
            except TryLater as error:
                raise UserError(str(error)) from error

    def _each(
        self, only: Sequence[str], work: Callable[[Region, Shipment], Delivery]
    ) -> Iterator[Delivery]:
        for name in only or list(self.regions.regions):
            shipments = [each for each in self.regions.shipments if name in each.regions]
            try:
                region = self.regions.open(name)
            except UserError as error:
                yield Delivery(name, "*", trouble=str(error))
                continue
            for each in shipments:
                try:
                    yield work(region, each)
                except _Away as error:
                    yield Delivery(name, "*", trouble=str(error))
                    break  # its other tables are away, too
                except _Refused as error:
                    yield Delivery(name, each.target, trouble=str(error))

    def _bring(self, sink: BatchSink, region: Region, each: Shipment) -> Delivery:
        place = self._place(region, each)
        rows = batches = 0
        until = None
        while True:
            position, state = self.patience.persist(sink.states).get(place, (None, None))
            self._check_key(region, each, state)
            parcel = self._read(region, each, position or 0)
            if parcel is None:
                return Delivery(region.name, each.target, rows, batches, until)
            self.faults.reach("received")
            moves = {place: (position, parcel.next)}
            states = {place: json.dumps({"key": _key_of(region, each)})}
            try:
                sink.append(f"bronze.{each.target}", parcel.rows, moves, states)
            except Fenced:
                continue  # another consolidation has brought it
            except UserError as error:
                raise _Refused(str(error)) from error
            rows, batches = rows + parcel.rows.num_rows, batches + parcel.batches
            until = parcel.next - 1

    def _waiting(self, region: Region, each: Shipment, held: dict[Place, Any]) -> Delivery:
        position, state = held.get(self._place(region, each), (0, None))
        self._check_key(region, each, state)
        with self._reading(region) as connection:
            _check_columns(connection, each)
            sizes = _sizes(connection, each, position)
        total = sum(size for _, size in sizes)
        until = sizes[-1][0] if sizes else None
        return Delivery(region.name, each.target, total, len(sizes), until)

    def _read(self, region: Region, each: Shipment, position: int) -> _Parcel | None:
        """The next batches, masked; None when there are none."""
        with self._reading(region) as connection:
            selected = _check_columns(connection, each)
            sizes = _sizes(connection, each, position)
            if not sizes:
                return None
            taken = total = 0
            for _, size in sizes:
                if taken and total + size > self.rows:
                    break
                taken, total = taken + 1, total + size
            last = sizes[taken - 1][0]
            found = connection.execute(
                f'select {selected}, {BATCH} as "_region_batch_id" from {each.source}'
                f" where {BATCH} >= ? and {BATCH} <= ?",
                [position, last],
            ).to_arrow_table()
        for name, values in (
            ("region", pa.array([region.name] * found.num_rows, pa.string())),
            ("consolidated_at", pa.array([utc_now()] * found.num_rows, pa.timestamp("us"))),
        ):
            found = found.append_column(name, values)
        return _Parcel(found, taken, last + 1)

    @contextmanager
    def _reading(self, region: Region) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that has the region's lake and key, and nothing else. An error's text may
        hold a value, so only a known one is shown."""
        try:
            connection = self.patience.persist(region.lake.connect)
        except LakeLocked as error:
            raise _Away(f"its lake is busy: {error}") from None
        except (UserError, duckdb.Error) as error:
            raise _Away(str(error) if isinstance(error, UserError) else "no answer") from None
        try:
            connection.execute("set temp_directory = ''")  # nothing of it goes to our disk
            if region.key:
                set_key(connection, region.key)
            yield connection
        except duckdb.Error as error:
            raise _Away(explain(error) or f"{type(error).__name__} while it was read") from None
        finally:
            connection.close()

    def _check_key(self, region: Region, each: Shipment, state: str | None) -> None:
        before = json.loads(state)["key"] if state else None
        if before and before != _key_of(region, each) and each.masks and not self.new_key:
            raise _Refused(
                "its key is not the one that earlier rows were masked with, so new rows would not "
                "join them: set the old key, or run once with --new-key."
            )

    def _place(self, region: Region, each: Shipment) -> Place:
        return f"{region.name}/{each.target}", 0

    def _held_readonly(self) -> dict[Place, tuple[int, str | None]]:
        table = f"ops.positions__{self.regions.name}"
        if not self.lake.exists:
            return {}
        with reading(self.lake) as lake:
            if not lake.columns(table):
                return {}
            rows = lake.query(
                f"select topic, partition, position, state from {table} where topic != '*'"
            )
        return {(topic, part): (position, state) for topic, part, position, state in rows}


@dataclass(frozen=True)
class _Parcel:
    rows: pa.Table
    batches: int
    next: int


class _Away(Exception):
    """The region cannot be read now."""


class _Refused(Exception):
    """The table may not go as it is."""


def _key_of(region: Region, each: Shipment) -> str:
    return key_id(region.key) if each.masks else ""


def _check_columns(connection: duckdb.DuckDBPyConnection, each: Shipment) -> str:
    """The select list. Raises _Refused for a column that the list does not name: it may be new, and
    nobody has said that it may leave."""
    found = columns_of(connection, each.source)
    if not found:
        raise _Refused(f"the region has no table {each.source}.")
    if BATCH not in found:
        raise _Refused(f"{each.source} has no {BATCH}, so what is new in it cannot be told.")
    unnamed = [name for name in found if name not in each.rules and name != BATCH]
    if unnamed:
        raise _Refused(
            f"{each.source} has columns that are not in the list: {', '.join(unnamed)}. Nothing of "
            "it was taken; name each with what is to be done (keep, drop, mask, ...)."
        )
    missing = [name for name, rule in each.rules.items() if name not in found and rule != "drop"]
    if missing:
        raise _Refused(
            f"{each.source} no longer has {', '.join(missing)}: take it out of the list, or bring "
            "it back."
        )
    return ", ".join(
        column(name, each.rules[name])
        for name in found
        if name != BATCH and each.rules[name] != "drop"
    )


def _sizes(
    connection: duckdb.DuckDBPyConnection, each: Shipment, position: int
) -> list[tuple[int, int]]:
    """Batches that are new, with their rows. Raises _Refused for rows without a batch."""
    (unknown,) = connection.execute(
        f"select count(*) from {each.source} where {BATCH} is null"
    ).fetchone() or (0,)
    if unknown:
        raise _Refused(f"{each.source} has {unknown:,} rows without {BATCH}.")
    return connection.execute(
        f"select {BATCH}, count(*) from {each.source} where {BATCH} >= ? group by 1 order by 1",
        [position],
    ).fetchall()
