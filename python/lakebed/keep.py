"""What DuckLake deletes although it was committed, and must not.

When a commit fails, DuckLake removes the files that its transaction wrote. A commit also fails
when the connection to the catalogue's server is lost before the answer, and then the server may
have done it: the catalogue has the files, the disk has not, and the table cannot be read any more
(docs/decisions/0011; a catalogue in a file has no such moment). So each new file gets a second name
before a commit, and its own name back when the commit's fate is unknown. If it was not committed,
the file is one that no table has, which `expire` removes.
"""

from __future__ import annotations

import os
import shutil
import socket
import time
import uuid
from collections.abc import Iterator, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path

import duckdb

from lakebed.ingest.patience import TRANSIENT, classify
from lakebed.store import is_object_store

PATTERNS = ["pat-exactly-once-transactional-sinks", "pat-retryable"]

#: Where the second names are, below the lake's files; one folder for each process.
FOLDER = ".kept"
#: A file server's clock may be off by so many seconds.
SLACK = 60.0
#: After so many seconds a folder of another machine's process is taken for abandoned.
ABANDONED = 24 * 3600.0


@dataclass(frozen=True)
class _Folder:
    """As it was at the last commit. The names of its files only if it had changed lately, since a
    lake may have millions."""

    changed: int  # nanoseconds
    folders: list[Path]
    files: Set[str]


class Keeper:
    """Keeps the new files of a lake whose files are in `data`, for transactions one after another.

    Does what a process left undone that was killed while it gave names back. A file system
    without hard links has a copy of each new file while it is committed.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self._since = time.time()
        self._seen: dict[Path, _Folder] = {}
        self._name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._heal()

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Around a commit: when its fate is unknown, the files of the transaction are kept."""
        begun = time.time()
        own = self.data / FOLDER / self._name
        kept = {}
        for file in self._new_files():
            second = own / file.relative_to(self.data)
            second.parent.mkdir(parents=True, exist_ok=True)
            try:
                try:
                    os.link(file, second)
                except FileNotFoundError:
                    raise
                except OSError:
                    shutil.copyfile(file, second)
            except FileNotFoundError:
                continue  # of another writer, who has just rolled back
            kept[second] = file
        try:
            yield
        except BaseException as error:
            if classify(error) != TRANSIENT:  # else the server has said that it did nothing
                for second, file in kept.items():
                    give_back(second, file)
            raise
        else:
            self._since = begun
        finally:
            if kept:
                shutil.rmtree(own, ignore_errors=True)

    def _new_files(self) -> Iterator[Path]:
        """Files made since the last commit, other writers' among them. Only folders that changed
        are listed, and what was there at a commit before is of a transaction that has ended: this
        costs little beside a commit."""
        after = (self._since - SLACK) * 1e9
        folders = [self.data]
        while folders:
            folder = folders.pop()
            try:
                changed = folder.stat().st_mtime_ns
                known = self._seen.get(folder)
                if known and known.changed == changed and changed < after:
                    folders += known.folders
                    continue
                entries = list(os.scandir(folder))
            except FileNotFoundError:
                continue
            within = [Path(e) for e in entries if e.is_dir() and e.name != FOLDER]
            folders += within
            # A folder that is as old as that has no newer file.
            recent = {e.name: e for e in entries if e.is_file()} if changed >= after else {}
            self._seen[folder] = _Folder(changed, within, set(recent))
            for name in recent.keys() - (known.files if known else ()):
                if _changed(recent[name]) >= after:
                    yield Path(recent[name])

    def _heal(self) -> None:
        try:
            folders = list(os.scandir(self.data / FOLDER))
        except FileNotFoundError:
            return
        for folder in folders:
            if abandoned(folder.name, _changed(folder) / 1e9):
                for second in [file for file in Path(folder).rglob("*") if file.is_file()]:
                    give_back(second, self.data / second.relative_to(folder.path))
                shutil.rmtree(folder.path, ignore_errors=True)


def keeper_of(connection: duckdb.DuckDBPyConnection, alias: str) -> Keeper | None:
    """For the lake that is attached as `alias`; None for one that needs none, or whose files are in
    an object store, whose own versions bring them back (docs/going-to-production.md)."""
    rows = connection.execute("select * from ducklake_settings(?)", [alias]).fetchall()
    ((catalogue, _, data),) = rows
    return None if catalogue == "duckdb" or is_object_store(data) else Keeper(Path(data))


def keeping(keeper: Keeper | None) -> AbstractContextManager[None]:
    """Around a commit of a lake that may need a keeper."""
    return keeper.keeping() if keeper else nullcontext()


def give_back(second: Path, file: Path) -> None:
    """The file's own name, unless it still has it."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process has just given it back
            second.replace(file)


def _changed(entry: os.DirEntry[str]) -> float:
    """When it was last changed, in nanoseconds; never, when another process has just removed it."""
    try:
        return entry.stat().st_mtime_ns
    except FileNotFoundError:
        return float("-inf")


def abandoned(name: str, changed: float) -> bool:
    """Whether the process of a folder is gone."""
    host, process, _ = name.rsplit("-", 2)
    if host != socket.gethostname():
        return time.time() - changed > ABANDONED
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
