"""Folders of Parquet files as a conversion sees them: what is in them, and what became of it."""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.errors import UserError

#: Hive's name of a partition without a value.
NO_VALUE = "__HIVE_DEFAULT_PARTITION__"
#: The engines would take these for patterns, or for the end of a name.
_UNUSABLE = re.compile(r"[*?\[\]{}\"<>|^`#\\\x00-\x1f]")
_TABLES = {"_delta_log": "a Delta table", "metadata": "an Iceberg table"}


@dataclass(frozen=True, order=True)
class File:
    """A file by its path in the folder. One that is written anew has another size or time."""

    file: str
    bytes: int
    modified: int


@dataclass(frozen=True)
class Moves:
    """How a folder differs from what is known of it: paths, in order."""

    new: list[File]
    changed: list[str]
    gone: list[str]

    @property
    def broken(self) -> list[str]:
        """Files that are not what they were: their rows cannot be taken back."""
        return sorted(self.changed + self.gone)


def moves(known: Mapping[str, File], found: Sequence[File]) -> Moves:
    """Compare the files of a folder with those that are known.

    >>> a, b = File("a.parquet", 1, 1), File("b.parquet", 1, 1)
    >>> moves({"a.parquet": a, "c.parquet": b}, [File("a.parquet", 2, 1), b]).changed
    ['a.parquet']
    """
    there = {each.file: each for each in found}
    return Moves(
        new=sorted(each for each in found if each.file not in known),
        changed=sorted(name for name in known if name in there and there[name] != known[name]),
        gone=sorted(name for name in known if name not in there),
    )


def listed(folder: Path) -> list[File]:
    """The Parquet files of a folder, none when it is gone; hidden ones are left out."""
    found: list[File] = []
    if not folder.exists():
        return found
    for place, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in sorted(names):
            if name.endswith(".parquet") and name[0] not in "._":
                path = Path(place, name)
                try:
                    state = path.stat()
                except FileNotFoundError:
                    continue  # gone a moment ago
                relative = str(path.relative_to(folder))
                if _UNUSABLE.search(relative):
                    raise UserError(f"{path}: a name with such characters cannot be read.")
                found.append(File(relative, state.st_size, state.st_mtime_ns))
    return found


def checked_folder(folder: Path) -> Path:
    """The absolute path of a folder of plain Parquet files. Raises UserError."""
    folder = folder.resolve()
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    if _UNUSABLE.search(str(folder)):
        raise UserError(f"{folder}: a path with such characters cannot be read.")
    for name, what in _TABLES.items():
        inside = folder / name
        if inside.is_dir() and (name[0] == "_" or any(inside.glob("*.metadata.json"))):
            raise UserError(
                f"{folder} is {what}: its folder has files of old versions too. Write the table "
                "as it is to another folder (`lakebed export`), and convert that."
            )
    if not listed(folder):
        raise UserError(f"{folder} has no Parquet files.")
    return folder


def partitions(files: Sequence[File]) -> list[str]:
    """The columns that folders are named for, the outermost first. Raises UserError.

    >>> partitions([File("year=2024/month=1/a.parquet", 1, 1)])
    ['year', 'month']
    """
    found = None
    for each in files:
        parts = Path(each.file).parts[:-1]
        if not all(re.fullmatch(r"[^=]+=.+", part) for part in parts):
            raise UserError(
                f"{each.file} is in a folder that is not named column=value: files must be in the "
                "folder itself, or in such partitions of it."
            )
        names = [part.split("=", 1)[0] for part in parts]
        if found is not None and names != found:
            raise UserError(
                f"{each.file} is partitioned by {', '.join(names) or 'nothing'}, and "
                f"{files[0].file} by {', '.join(found) or 'nothing'}."
            )
        found = names
    return found or []


def partition_path(names: Sequence[str], values: Sequence[str | None]) -> Path:
    """The folder of a partition's files.

    >>> partition_path(["a", "b"], ["1/2", None]).as_posix()
    'a=1%2F2/b=__HIVE_DEFAULT_PARTITION__'
    """
    return Path(
        *(
            f"{name}={NO_VALUE if value is None else quote(value, safe=' +,-._~')}"
            for name, value in zip(names, values, strict=True)
        )
    )


def check_schemas(folder: Path, files: Sequence[File], like: str | None = None) -> None:
    """Every file has the columns of the first, or of `like`, and can be read. Raises UserError."""
    first = like or files[0].file
    wanted = _columns(folder / first)
    named = {part.split("=", 1)[0] for part in Path(first).parts[:-1]}
    if twice := sorted(named & {column.split(".")[0] for column in wanted}):
        raise UserError(f"Column {twice[0]} is in the files and in the names of their folders.")
    for each in files:
        columns = _columns(folder / each.file)
        for name in sorted(set(columns) | set(wanted)):
            if columns.get(name) != wanted.get(name):
                raise UserError(
                    f"The files are not of one schema: {name} is {columns.get(name, 'not there')} "
                    f"in {each.file}, {wanted.get(name, 'not there')} in {first}."
                )


def _columns(path: Path) -> dict[str, str]:
    """Columns, nested ones by their path, with what Parquet says of their types."""
    try:
        # Another file system than the local one would be guessed from the name.
        with path.open("rb") as stream:
            schema = pq.ParquetFile(stream).schema
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    return dict(_column(schema.column(number)) for number in range(len(schema)))


def _column(column: Any) -> tuple[str, str]:
    logical = str(column.logical_type)
    # What some writers say, and others leave to be understood.
    plain = {"INT32": "Int(bitWidth=32, isSigned=true)", "INT64": "Int(bitWidth=64, isSigned=true)"}
    said = "" if logical in ("None", plain.get(column.physical_type)) else f" {logical}"
    return column.path, f"{column.physical_type}{said}"


def _raise(error: OSError) -> None:
    raise error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One conversion of a folder at a time, on this machine. Raises UserError."""
    if not folder.exists():
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(held)
        raise UserError(f"Another `lakebed convert` is at work on {folder}.") from error
    try:
        yield
    finally:
        os.close(held)
