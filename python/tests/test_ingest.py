"""`lakebed ingest files`: when a batch starts, what it takes, and what it does when it cannot."""

from __future__ import annotations

import gzip
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lakebed.ingest.files import landing_folder
from lakebed.ingest.trigger import Thresholds, Waiting, due
from lakebed.landing import LONGEST_LINE, LandedFile
from lakehouse import REPO, Lakehouse

PROVES = ["pat-file-drop-microbatch"]

NOW = 1_700_000_000.0


def file(name: str = "a.csv", size: int = 10, age: float = 0) -> LandedFile:
    path = Path("landing/shop/orders") / name
    return LandedFile("shop", "orders", name, path, size, int((NOW - age) * 1e9))


def reason(files: list[LandedFile], thresholds: Thresholds, now: float = NOW) -> str | None:
    waiting = Waiting()
    waiting.see(files, now)
    return due(files, waiting, now, thresholds)


@pytest.mark.parametrize(
    ("thresholds", "files", "found"),
    [
        (Thresholds(), [], None),
        (Thresholds(age=1), [], None),
        (Thresholds(), [file()], "new files"),
        (Thresholds(files=2), [file()], None),
        (Thresholds(files=2), [file(), file("b.csv")], "2 files or more"),
        (Thresholds(bytes=21), [file(), file("b.csv")], None),
        (Thresholds(bytes=20), [file(), file("b.csv")], "20 bytes or more"),
        (Thresholds(age=60), [file(age=59), file("b.csv", age=3)], None),
        (Thresholds(age=60), [file(age=3), file("b.csv", age=60)], "waiting for 60 s or more"),
        (Thresholds(files=9, bytes=99, age=60), [file(age=61)], "waiting for 60 s or more"),
        (Thresholds(files=9, bytes=99, age=60), [file(age=59)], None),
    ],
)
def test_a_batch_starts_when_one_threshold_holds(
    thresholds: Thresholds, files: list[LandedFile], found: str | None
) -> None:
    assert reason(files, thresholds) == found


def test_a_file_from_the_future_waits_from_when_it_was_seen() -> None:
    ahead, waiting = file(age=-86_400), Waiting()
    waiting.see([ahead], NOW)
    assert due([ahead], waiting, NOW, Thresholds(age=60)) is None
    waiting.see([ahead], NOW + 60)
    assert due([ahead], waiting, NOW + 60, Thresholds(age=60)) == "waiting for 60 s or more"


def test_a_file_that_was_loaded_waits_no_longer() -> None:
    old, new, waiting = file(age=100), file("b.csv"), Waiting()
    waiting.see([old, new], NOW)
    waiting.see([new], NOW)
    assert waiting.oldest(NOW) == 0
    assert due([new], waiting, NOW, Thresholds(age=60)) is None


@given(
    st.lists(st.tuples(st.integers(0, 100), st.integers(-50, 100)), max_size=6),
    st.integers(0, 4),
    st.integers(0, 200),
    st.integers(0, 60),
)
def test_due_as_defined(files: list[tuple[int, int]], count: int, size: int, age: int) -> None:
    landed = [file(f"{n}.csv", bytes_, old) for n, (bytes_, old) in enumerate(files)]
    holds = [
        count and len(files) >= count,
        size and sum(bytes_ for bytes_, _ in files) >= size,
        age and any(old >= age for _, old in files),
    ]
    expected = bool(files) and (any(holds) or not (count or size or age))
    assert bool(reason(landed, Thresholds(count, size, age))) == expected


def test_the_landing_folder_is_the_one_dbt_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LAKEBED_LANDING", raising=False)
    project = tmp_path / "dbt_project.yml"
    project.write_text("vars: {lakebed: {landing: ''}}")
    assert landing_folder(tmp_path) == tmp_path / "data/landing"
    monkeypatch.setenv("LAKEBED_LANDING", "/drop")
    assert landing_folder(tmp_path) == Path("/drop")
    project.write_text("vars: {lakebed: {landing: in}}")
    assert landing_folder(tmp_path) == tmp_path / "in"
    project.write_text("vars: {landing: mine, lakebed: {landing: in}}")
    assert landing_folder(tmp_path) == tmp_path / "mine"
    assert landing_folder(tmp_path, Path("/other")) == Path("/other")


HEADER = "campaign_id,campaign_type,start_date,end_date"


@pytest.fixture(scope="module")
def lakehouse(tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    return Lakehouse(tmp_path_factory.mktemp("ingest"))


def drop(lakehouse: Lakehouse, name: str, *lines: str, entity: str = "campaigns") -> Path:
    path = lakehouse.landing / "retail" / entity / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def rows(lakehouse: Lakehouse) -> list[tuple[object, ...]]:
    return lakehouse.query(
        "select _file_name, _batch_id, _record from bronze.retail__campaigns order by all"
    )


def test_without_a_landing_folder_it_says_what_to_do(lakehouse: Lakehouse) -> None:
    done = lakehouse.run("lakebed", "ingest", "files", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The landing folder")
    assert "LAKEBED_LANDING" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_batches_by_count_each_file_once(lakehouse: Lakehouse) -> None:
    for n in range(1, 6):
        drop(lakehouse, f"{n}.csv", f"{n},Type A,2017-01-01,2017-02-01")
    drop(lakehouse, "6.csv.tmp", "6,Type A,2017-01-01,2017-02-01")
    done = lakehouse.run("lakebed", "ingest", "files", "--max-files", "2")
    batches = re.findall(r"^Batch (\d+): (\d+) ready; .* (\d+) left$", done.stdout, re.M)
    assert batches == [("1", "2", "3"), ("2", "2", "1"), ("3", "1", "0")]
    loaded = rows(lakehouse)
    assert [row[1] for row in loaded] == [1, 1, 2, 2, 3]
    assert lakehouse.run("lakebed", "ingest", "files").stdout.startswith("Nothing new in ")
    assert rows(lakehouse) == loaded


def test_a_cut_off_and_a_repeated_file_are_told_and_not_loaded(lakehouse: Lakehouse) -> None:
    before = rows(lakehouse)
    (lakehouse.landing / "retail/campaigns/again.csv").write_bytes(
        (lakehouse.landing / "retail/campaigns/1.csv").read_bytes()
    )
    half = gzip.compress(b"x" * 10_000 + b"\n")[:-12]
    (lakehouse.landing / "retail/campaigns/half.csv.gz").write_bytes(half)
    done = lakehouse.run("lakebed", "ingest", "files")
    assert "1 duplicate, 1 incomplete; 0 rows" in done.stdout
    assert rows(lakehouse) == before


def test_a_huge_line_is_loaded_and_a_larger_one_refused(lakehouse: Lakehouse) -> None:
    folder = lakehouse.landing / "retail/campaigns"
    head = (folder / "1.csv").read_text().splitlines()[0]
    for name, length in (("huge", LONGEST_LINE), ("too_huge", LONGEST_LINE + 1)):
        line = b"77,\xe4" + b"\xe4" * (length - 26) + b",2017-01-01,2017-02-01"
        assert len(line) == length
        (folder / f"{name}.csv").write_bytes(f"{head}\n".encode() + line + b"\n")
    done = lakehouse.run("lakebed", "ingest", "files")
    assert "1 ready, 1 unreadable; 1 rows" in done.stdout
    loaded = lakehouse.query("select max(strlen(_record)) from bronze.retail__campaigns")
    assert loaded[0][0] > LONGEST_LINE
    reasons = lakehouse.query(
        "select reason from bronze.landing__files where file_name like '%too_huge.csv'"
    )
    assert reasons == [(f"a line of more than {LONGEST_LINE} bytes",)]


def test_one_entity_alone_starts_a_batch(lakehouse: Lakehouse) -> None:
    drop(lakehouse, "late.csv", "8,Type B,2017-01-01,2017-02-01", entity="coupons")
    done = lakehouse.run("lakebed", "ingest", "files", "--entity", "campaigns")
    assert done.stdout.startswith("Nothing new")
    done = lakehouse.run("lakebed", "ingest", "files", "--entity", "coupons")
    assert "1 ready" in done.stdout
    names = lakehouse.query("select distinct _file_name from bronze.retail__coupons")
    assert names == [("retail/coupons/late.csv",)]


def test_thresholds_without_watch_are_a_usage_error(lakehouse: Lakehouse) -> None:
    done = lakehouse.run("lakebed", "ingest", "files", "--min-files", "3", check=False)
    assert done.returncode == 2
    assert "--watch" in done.stderr
    assert "Traceback" not in done.stderr


HOLD = """
import duckdb, sys, time
from lakebed.lake import load_extensions
connection = duckdb.connect()
load_extensions(connection)
connection.execute(f"attach 'ducklake:{sys.argv[1]}' as lake")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(lakehouse: Lakehouse) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the catalogue, until its standard input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lakehouse.home / "lake" / "catalog.ducklake")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPO,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_locked_lake_is_one_line_with_the_process(
    lakehouse: Lakehouse, holder: subprocess.Popen[str]
) -> None:
    for command in (("ingest", "files"), ("status",), ("sql", "select 1")):
        done = lakehouse.run("lakebed", *command, check=False)
        assert done.returncode == 1
        assert f"in use by process {holder.pid}" in done.stderr
        assert "`team`" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_watcher_waits_for_its_turn_and_for_a_threshold(
    lakehouse: Lakehouse, holder: subprocess.Popen[str]
) -> None:
    watcher = subprocess.Popen(
        [
            "lakebed",
            *["ingest", "files", "--watch", "0.2", "--min-files", "2", "--max-age", "3600"],
        ],
        cwd=REPO,
        env={**lakehouse.environment(), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert watcher.stdout
        assert watcher.stdout.readline().startswith("Waiting: The lake's catalogue")
        holder.communicate("")
        drop(lakehouse, "21.csv", "21,Type A,2017-01-01,2017-02-01")
        time.sleep(2)  # one file is not enough: nothing happens
        drop(lakehouse, "22.csv", "22,Type A,2017-01-01,2017-02-01")
        line = watcher.stdout.readline()
        assert "2 ready" in line, line
        assert "2 files or more" in line
        # Between batches the catalogue is free for others.
        assert lakehouse.run("lakebed", "sql", "select 1").returncode == 0
        os.kill(watcher.pid, signal.SIGINT)
        out, err = watcher.communicate(timeout=30)
        assert (watcher.returncode, out, err) == (0, "", "Stopped.\n")
    finally:
        watcher.kill()


def test_an_unknown_target_is_one_line(lakehouse: Lakehouse) -> None:
    done = lakehouse.run("lakebed", "ingest", "files", "--target", "nowhere", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The profile 'lakebed' has no target 'nowhere'; it has")
    assert len(done.stderr.splitlines()) == 1
