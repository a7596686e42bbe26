"""The second names of new files: see test_retry for the commits that are really lost."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import duckdb
import pytest
from lakebed.keep import ABANDONED, FOLDER, Keeper

PROVES = ["pat-exactly-once-transactional-sinks"]

LOST = duckdb.Error("Failed to commit: server closed the connection unexpectedly")
CONFLICT = duckdb.TransactionException("Transaction conflict - attempting to insert")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "files" / "bronze" / "clicks").mkdir(parents=True)
    return tmp_path / "files"


def new_file(data: Path, name: str = "new.parquet") -> Path:
    file = data / "bronze" / "clicks" / name
    file.write_text(name)
    return file


def commit(keeper: Keeper, file: Path, error: Exception | None, gone: bool = True) -> None:
    """What DuckLake does when a commit ends with `error`."""
    with keeper.keeping():
        if gone and error:
            file.unlink()
        if error:
            raise error


def test_only_what_may_be_committed_is_kept(data: Path) -> None:
    keeper = Keeper(data)
    lost = new_file(data)
    with pytest.raises(duckdb.Error, match="server closed"):
        commit(keeper, lost, LOST)
    assert lost.read_text() == "new.parquet"
    refused = new_file(data, "refused.parquet")
    with pytest.raises(duckdb.Error, match="conflict"):
        commit(keeper, refused, CONFLICT)
    assert not refused.exists()
    later = new_file(data, "later.parquet")
    commit(keeper, later, None)
    assert later.stat().st_nlink == 1
    assert not list((data / FOLDER).iterdir())


def test_a_file_written_long_before_its_commit_is_kept(data: Path) -> None:
    keeper = Keeper(data)
    file = new_file(data)
    keeper._since -= 4000
    for path in (file, file.parent):  # a transaction of an hour
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    with pytest.raises(duckdb.Error, match="server closed"):
        commit(keeper, file, LOST)
    assert file.exists()


def test_a_commit_links_its_own_files(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not those of all commits of the last minute: a stream of small batches has hundreds."""
    linked, link = [], os.link
    monkeypatch.setattr(os, "link", lambda old, new: linked.append(old.name) or link(old, new))
    keeper = Keeper(data)
    names = [f"{number}.parquet" for number in range(20)]
    for name in names:
        file = new_file(data, name)
        with pytest.raises(duckdb.Error, match="server closed"):
            commit(keeper, file, LOST)
        assert file.exists()
    assert linked == names


def test_folders_that_did_not_change_are_not_listed(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = new_file(data)
    keeper = Keeper(data)
    for path in (old, old.parent, old.parent.parent, data):
        os.utime(path, (path.stat().st_mtime - 3600,) * 2)
    commit(keeper, old, None)
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(path) or scandir(path))
    (data / "silver").mkdir()
    new = data / "silver" / "new.parquet"
    new.write_text("")
    with pytest.raises(duckdb.Error, match="server closed"):
        commit(keeper, new, LOST)
    assert new.exists()
    assert data / "silver" in listed
    assert old.parent not in listed


def test_other_writers_files_come_and_go(data: Path) -> None:
    """Whoever rolls back removes files that were seen a moment before."""
    done = threading.Event()

    def come_and_go(name: str) -> None:
        while not done.is_set():
            for file in [new_file(data, f"{name}-{number}.parquet") for number in range(20)]:
                file.unlink()

    keeper = Keeper(data)
    mine = new_file(data, "mine.parquet")
    with ThreadPoolExecutor(3) as pool:
        others = [pool.submit(come_and_go, name) for name in ("a", "b", "c")]
        try:
            for _ in range(100):
                commit(keeper, mine, None)
        finally:
            done.set()
        assert [other.result() for other in others] == [None] * 3
    assert mine.stat().st_nlink == 1


def test_a_file_system_without_links(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    keeper = Keeper(data)
    file = new_file(data)
    with pytest.raises(duckdb.Error, match="server closed"):
        commit(keeper, file, LOST)
    assert file.read_text() == "new.parquet"


KILLED = """
import os, pathlib, signal, sys
from lakebed.keep import Keeper
data = pathlib.Path(sys.argv[1])
keeper = Keeper(data)
file = data / "bronze" / "clicks" / "new.parquet"
file.write_text("new.parquet")
with keeper.keeping():
    file.unlink()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_writer_killed_before_it_gave_names_back(data: Path) -> None:
    file = data / "bronze" / "clicks" / "new.parquet"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(data)], check=False)
    assert killed.returncode == -9
    assert not file.exists()
    Keeper(data)
    assert file.read_text() == "new.parquet"
    assert not list((data / FOLDER).iterdir())


def test_writers_that_live_are_left_alone(data: Path) -> None:
    def second_name(owner: str) -> Path:
        second = data / FOLDER / owner / "bronze" / "clicks" / "new.parquet"
        second.parent.mkdir(parents=True)
        second.write_text("new.parquet")
        return data / FOLDER / owner

    mine = second_name(f"{os.uname().nodename}-{os.getppid()}-ab")
    other = second_name("another-host-1-cd")
    Keeper(data)
    assert (mine.exists(), other.exists()) == (True, True)
    os.utime(other, (other.stat().st_mtime - ABANDONED - 1,) * 2)
    Keeper(data)
    assert (mine.exists(), other.exists()) == (True, False)


def test_files_that_go_while_they_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that rolls back takes its file away: the verb that looks for orphans looks again.
    A mock, since the moment is between two calls inside DuckLake."""
    from dbt.adapters.duckdb.environments.local import DuckDBCursorWrapper
    from lakebed.dbt_duckdb import LISTING, extend_cursor

    class Cursor:
        tries = 0

        def execute(self, _sql: str) -> str:
            self.tries += 1
            if self.tries < 3:
                raise duckdb.IOException('Cannot open file "a.parquet": No such file or directory')
            return "rows"

    monkeypatch.setattr(DuckDBCursorWrapper, "execute", DuckDBCursorWrapper.execute)
    extend_cursor([])
    assert DuckDBCursorWrapper(Cursor()).execute(f"call {LISTING}'lake')") == "rows"
    with pytest.raises(duckdb.IOException):
        DuckDBCursorWrapper(Cursor()).execute("from read_parquet('a.parquet')")
