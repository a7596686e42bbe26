"""Tiers: files whose rows have grown old go to cheaper storage, and queries go on as before.

On DuckLake a file is moved for real: the catalogue says of each file where it lies, so every query,
also one of an old version, finds it there. A copy is promised to the catalogue's list of files to
delete before it is made, and taken off that list in the transaction that makes it the file: killed
anywhere, `lakebed maintain` deletes what nobody needs. In an object store objects stay where they
are, and the same policy is printed as its lifecycle rules.
"""

from __future__ import annotations

import hashlib
import os
import random
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from lakebed.dbt import Project, answer
from lakebed.erase.ducklake import data_place, open_writer
from lakebed.errors import UserError
from lakebed.ingest.faults import Faults
from lakebed.ingest.patience import Patience
from lakebed.project import Lake
from lakebed.store import is_object_store

PATTERNS = ["pat-storage-tiering"]

#: Steps of a move at which `--fail-at` dies.
POINTS = ("promised", "copied", "moved")
_GB = 1e9
_CHUNK = 4 << 20


@dataclass(frozen=True)
class Tier:
    """Storage for files whose newest row is at least `days` old. `dollars` are for a GB (10^9
    bytes) and month; `place` is where its files go, `storage_class` what an object store says."""

    name: str
    days: int
    dollars: float
    place: Path | None = None
    storage_class: str | None = None


@dataclass(frozen=True)
class File:
    """A live data file. `home` is its table's own folder, `relative` its path below that, or below
    the table's folder in a tier; `age` in days."""

    id: int
    table: str
    home: Path
    path: Path
    relative: str
    bytes: int
    age: float


@dataclass(frozen=True)
class Move:
    """A file that lies in `old` and belongs in `new`."""

    file: File
    old: Tier
    new: Tier


@dataclass(frozen=True)
class Policy:
    """The tiers, hottest first, and what each table says: a column, or that it stays."""

    tiers: list[Tier]
    columns: Mapping[str, str]
    staying: frozenset[str]
    now: datetime

    def tier(self, age: float) -> Tier:
        """Where a file of that age in days belongs."""
        return [tier for tier in self.used if age >= tier.days][-1]

    @property
    def used(self) -> list[Tier]:
        """All, while none has a place; else the hot one and those that have."""
        placed = [tier for tier in self.tiers[1:] if tier.place]
        return [self.tiers[0], *placed] if placed else self.tiers


@dataclass(frozen=True)
class Cost:
    """Bytes of a table in each tier, by name, and dollars a month."""

    table: str
    bytes: Mapping[str, int]
    dollars: float


def read_policy(project: Project) -> Policy:
    """The project's `tiers`, and its models' `meta: {tiering: ...}`. Raises UserError."""
    facts = answer(project.operation("tiering_facts", {}))
    columns, staying = {}, set()
    for table in facts["tables"]:
        wish = table["tiering"]
        if wish is False:
            staying.add(table["table"])
        elif isinstance(wish, dict) and set(wish) == {"column"}:
            columns[table["table"]] = str(wish["column"])
        else:
            raise UserError(f"{table['table']}: tiering is {{column: ...}} or false, not {wish!r}.")
    now = datetime.fromisoformat(facts["as_of"])
    return Policy(tiers_of(facts["tiers"], project.folder), columns, frozenset(staying), now)


def tiers_of(given: Any, folder: Path) -> list[Tier]:
    """The tiers of the variable `tiers`; relative places count from `folder`. Raises UserError."""
    if not isinstance(given, list) or not given:
        raise UserError("The variable tiers is a list of tiers, the hottest first.")
    known = {"tier", "days", "dollars", "place", "storage_class"}
    found: list[Tier] = []
    for each in given:
        if not isinstance(each, dict) or not {"tier", "days", "dollars"} <= set(each) <= known:
            raise UserError(
                f"tiers: each has tier, days, dollars, and may have place, storage_class: {each!r}."
            )
        days, dollars = each["days"], each["dollars"]
        if not _number(days) or days < 0 or not _number(dollars) or dollars < 0:
            raise UserError(f"tiers: {each['tier']}: days and dollars are numbers from 0 on.")
        if (days == 0) != (not found) or (found and days <= found[-1].days):
            raise UserError("tiers: the first has 0 days, and each other more than the one before.")
        place = folder / each["place"] if each.get("place") else None
        if place and not found:
            raise UserError(f"tiers: {each['tier']} is the lake's own place, and has no other.")
        if any(place and place == other.place for other in found):
            raise UserError(f"tiers: two have the place {each['place']}.")
        found.append(Tier(str(each["tier"]), days, dollars, place, each.get("storage_class")))
    return found


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def files(connection: duckdb.DuckDBPyConnection, lake: Lake, policy: Policy) -> list[File]:
    """The live data files of a DuckLake, from its catalogue alone. Raises UserError for a column
    that a table has not, or that holds no time."""
    catalogue = f'"__ducklake_metadata_{lake.alias}"'
    columns = connection.execute(
        f"""
        select
            schema_name || '.' || table_name, column_name, column_type, columns.table_id, column_id
        from {catalogue}.ducklake_column as columns
        inner join {catalogue}.ducklake_table as tables using (table_id)
        inner join {catalogue}.ducklake_schema as schemas using (schema_id)
        where columns.end_snapshot is null and tables.end_snapshot is null
            and schemas.end_snapshot is null and parent_column is null
        """
    ).fetchall()
    there = {table for table, *_ in columns}
    chosen: list[tuple[int, int]] = []
    for table, name in policy.columns.items():
        found = [row for row in columns if row[0] == table and row[1].lower() == name.lower()]
        if table in there and not (found and found[0][2].startswith(("timestamp", "date"))):
            raise UserError(f"{table}: tiering: it has no column {name} with times.")
        chosen += [(row[3], row[4]) for row in found]
    connection.execute("create or replace temp table aged (table_id bigint, column_id bigint)")
    if chosen:
        connection.executemany("insert into aged values (?, ?)", chosen)
    root = data_place(connection, lake)
    rows = connection.execute(
        f"""
        select
            data_file_id,
            schema_name || '.' || table_name,
            case when schemas.path_is_relative then ? || schemas.path else schemas.path end,
            tables.path,
            tables.path_is_relative,
            files.path,
            files.path_is_relative,
            file_size_bytes,
            epoch_us(cast(coalesce(
                try_cast(stats.max_value as timestamp),
                snapshot_time at time zone 'UTC'
            ) as timestamp))
        from {catalogue}.ducklake_data_file as files
        inner join {catalogue}.ducklake_table as tables using (table_id)
        inner join {catalogue}.ducklake_schema as schemas using (schema_id)
        inner join {catalogue}.ducklake_snapshot as snapshots
            on files.begin_snapshot = snapshots.snapshot_id
        left join temp.aged on files.table_id = aged.table_id
        left join {catalogue}.ducklake_file_column_stats as stats
            using (data_file_id, column_id)
        where files.end_snapshot is null and tables.end_snapshot is null
            and schemas.end_snapshot is null
        order by 1
        """,
        [root if root.endswith("/") else f"{root}/"],
    ).fetchall()
    result = []
    for number, table, schema, own, own_relative, path, relative, size, newest in rows:
        folder = schema + own if own_relative else own
        place = Path(folder + path if relative else path)
        below = path if relative else _below(policy, place, table)
        age = (policy.now - (datetime(1970, 1, 1) + timedelta(microseconds=newest))).total_seconds()
        result.append(File(number, table, Path(folder), place, below, size, age / 86400))
    return result


def _below(policy: Policy, path: Path, table: str) -> str:
    """The path below the table's folder of a file in a tier; its name, if no tier has it now."""
    for tier in policy.tiers:
        if tier.place and path.is_relative_to(_home(tier, table)):
            return str(path.relative_to(_home(tier, table)))
    return path.name


def _home(tier: Tier, table: str) -> Path:
    assert tier.place
    return tier.place.resolve() / table.replace(".", "/", 1)


def plan(found: Sequence[File], policy: Policy) -> tuple[list[Move], list[Cost], list[Cost]]:
    """What must move; and what each table costs now, and then."""
    moves, now, then = [], [], []
    for table in sorted({file.table for file in found}):
        mine = [file for file in found if file.table == table]
        stays = table in policy.staying
        pairs = [
            (file, _lies(policy, file), policy.tiers[0] if stays else policy.tier(file.age))
            for file in mine
        ]
        moves += [Move(file, old, new) for file, old, new in pairs if old != new]
        now.append(_cost(table, [(file, old) for file, old, _ in pairs]))
        then.append(_cost(table, [(file, new) for file, _, new in pairs]))
    return moves, now, then


def _lies(policy: Policy, file: File) -> Tier:
    for tier in policy.tiers:
        if tier.place and file.path.is_relative_to(tier.place.resolve()):
            return tier
    return policy.tiers[0]


def _cost(table: str, placed: Sequence[tuple[File, Tier]]) -> Cost:
    held: dict[str, int] = {}
    for file, tier in placed:
        held[tier.name] = held.get(tier.name, 0) + file.bytes
    return Cost(table, held, sum(file.bytes / _GB * tier.dollars for file, tier in placed))


def move(
    lake: Lake,
    policy: Policy,
    moves: Sequence[Move],
    say: Callable[[str], None],
    patience: Patience | None = None,
    faults: Faults | None = None,
) -> int:
    """Move files; returns how many were. The lake is open only between copies.

    A file that a build has replaced meanwhile is left out. Raises UserError when no tier has a
    place, or one is in the lake's own folder.
    """
    patience, faults = patience or Patience(60), faults or Faults(None, POINTS)
    if not any(tier.place for tier in policy.tiers):
        raise UserError(
            "No tier has a place to move files to: give the variable tiers one, or print the "
            "rules of an object store with `lakebed tier lifecycle`."
        )
    with _open(lake, patience) as connection:
        place = data_place(connection, lake)
    if is_object_store(place):
        raise UserError(
            f"The lake's files are in {place}, where objects stay and change their class: print "
            "the rules for that with `lakebed tier lifecycle`."
        )
    root = Path(place).resolve()
    for tier in policy.tiers:
        if tier.place and (
            tier.place.resolve().is_relative_to(root) or root.is_relative_to(tier.place.resolve())
        ):
            raise UserError(f"tiers: {tier.name}: {tier.place} and the lake's {root} overlap.")
    done = 0
    for each in moves:
        if _move(lake, each, patience, faults):
            done += 1
            size = f"{each.file.bytes / 1e6:,.1f} MB"
            say(f"{each.file.table}: {size} from {each.old.name} to {each.new.name}")
    return done


def _move(lake: Lake, each: Move, patience: Patience, faults: Faults) -> bool:
    file, catalogue = each.file, f'"__ducklake_metadata_{lake.alias}"'
    hot = each.new.place is None
    # A name of its own for each try: what an earlier one promised to delete is never a live file.
    relative = Path(file.relative).with_name(f"ducklake-{uuid.uuid4()}{file.path.suffix}")
    new = (file.home if hot else _home(each.new, file.table)) / relative
    # No file's own number, since the list forgets all entries of a number at once.
    promise = (1 << 61) + random.SystemRandom().randrange(1 << 61)
    deleted = f"{catalogue}.ducklake_files_scheduled_for_deletion"
    with _open(lake, patience) as connection:
        connection.execute(
            f"insert into {deleted} values (?, ?, false, now())", [promise, str(new)]
        )
    faults.reach("promised")
    _copy(file.path, new)
    faults.reach("copied")
    with _open(lake, patience) as connection:
        connection.execute("begin")
        kept = connection.execute(
            f"select 1 from {deleted} where data_file_id = ?", [promise]
        ).fetchall()
        live = connection.execute(
            f"select 1 from {catalogue}.ducklake_data_file"
            " where data_file_id = ? and end_snapshot is null",
            [file.id],
        ).fetchall()
        if not (kept and live):
            connection.execute("rollback")
            new.unlink(missing_ok=True)
            return False
        connection.execute(
            f"update {catalogue}.ducklake_data_file set path = ?, path_is_relative = ?"
            " where data_file_id = ?",
            [str(relative if hot else new), hot, file.id],
        )
        # What is to be deleted is the old one now.
        connection.execute(
            f"update {deleted} set path = ? where data_file_id = ?", [str(file.path), promise]
        )
        connection.execute("commit")
    faults.reach("moved")
    return True


def _copy(old: Path, new: Path) -> None:
    """Copy, durably, and read back. Raises UserError when what is read is not what was written."""
    new.parent.mkdir(parents=True, exist_ok=True)
    written = hashlib.sha256()
    with old.open("rb") as source, new.open("wb") as target:
        while chunk := source.read(_CHUNK):
            written.update(chunk)
            target.write(chunk)
        target.flush()
        os.fsync(target.fileno())
    read = hashlib.sha256()
    with new.open("rb") as back:
        while chunk := back.read(_CHUNK):
            read.update(chunk)
    if read.digest() != written.digest():
        raise UserError(f"{new} is not what was written: is its disk well? Nothing was moved.")
    folder = os.open(new.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _open(lake: Lake, patience: Patience) -> Iterator[duckdb.DuckDBPyConnection]:
    with patience.persist(lambda: open_writer(lake)) as connection:
        yield connection


def lifecycle(tiers: Sequence[Tier], prefix: str) -> dict[str, Any]:
    """The tiers as lifecycle rules of S3, for objects below `prefix`. Raises UserError."""
    moving = [tier for tier in tiers if tier.days and tier.storage_class]
    if not moving:
        raise UserError("No tier has a storage_class, such as GLACIER_IR.")
    steps = [{"Days": tier.days, "StorageClass": tier.storage_class} for tier in moving]
    rule = {"ID": "lakebed-tiers", "Status": "Enabled", "Filter": {"Prefix": prefix}}
    return {"Rules": [{**rule, "Transitions": steps}]}
