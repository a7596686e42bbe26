"""The command line: what it prints, and that a mistake is one clear line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest
from lakebed.landing import LandedFile, inspect, pending, scan, take
from lakehouse import Lakehouse

PROVES = ["pat-file-drop-microbatch"]


def fails(lakehouse: Lakehouse, *command: str) -> str:
    """The one line a failing command prints."""
    done = lakehouse.run(*command, check=False)
    assert done.returncode in (1, 2)
    text = done.stdout + done.stderr
    assert "Traceback" not in text, text
    return text


def test_sql_prints_table_csv_and_json(clean: Lakehouse) -> None:
    query = (
        "select 1 as one, cast(null as int) as nothing, cast(1.50 as decimal(4, 2)) as money,"
        " timestamp '2024-01-01 10:00:00' as at, ['a,b', 'ü'] as list"
    )
    row = json.loads(clean.run("lakebed", "sql", query, "--format", "json").stdout)
    assert row == {
        "one": 1,
        "nothing": None,
        "money": "1.50",
        "at": "2024-01-01T10:00:00",
        "list": ["a,b", "ü"],
    }
    lines = clean.run("lakebed", "sql", query, "--format", "csv").stdout.splitlines()
    assert lines[0] == "one,nothing,money,at,list"
    assert lines[1].startswith("1,,1.50,2024-01-01 10:00:00,")
    table = clean.run("lakebed", "sql", "select * from range(5)", "--limit", "2").stdout
    assert "The first 2 rows" in table


def test_sql_cannot_write(clean: Lakehouse) -> None:
    assert "read-only" in fails(clean, "lakebed", "sql", "drop table gold.dim_dates")


def test_status_says_what_was_refused(faulty: Lakehouse) -> None:
    text = faulty.run("lakebed", "status").stdout
    for word in ("fct_sales_lines", "conflicting_duplicate", "files incomplete", "Try next"):
        assert word in text


def test_mistakes_are_one_line(clean: Lakehouse, tmp_path: Path) -> None:
    assert "nothing_here" in fails(clean, "lakebed", "sql", "select nothing_here")
    assert "has no target 'prod'" in fails(clean, "lakebed", "status", "--target", "prod")
    assert "dbt_project.yml" in fails(clean, "lakebed", "status", "--project-dir", str(tmp_path))
    empty = Lakehouse(tmp_path)
    assert "run `dbt build` first" in fails(empty, "lakebed", "status")
    assert "does not exist" in fails(empty, "lakebed", "ingest", "files")


def test_a_locked_catalogue_says_by_whom(clean: Lakehouse) -> None:
    hold = (
        "import duckdb, sys; from lakebed.lake import load_extensions; c = duckdb.connect();"
        f"load_extensions(c); c.execute(\"attach 'ducklake:{clean.home}/lake/catalog.ducklake'\");"
        "print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline()
        for command in (("lakebed", "status"), ("dbt", "run", "--select", "dim_dates")):
            text = fails(clean, *command)
            assert f"in use by process {holder.pid}" in text
            assert "team" in text
    finally:
        holder.communicate()


def test_a_newer_lake_is_left_alone(clean: Lakehouse, tmp_path: Path) -> None:
    newer = Lakehouse(tmp_path)
    shutil.copytree(clean.home / "lake", tmp_path / "lake")
    with duckdb.connect(str(tmp_path / "lake" / "catalog.ducklake")) as catalogue:
        catalogue.execute("update ducklake_metadata set value = '99.0' where key = 'version'")
    for command in (("lakebed", "status"), ("dbt", "run", "--select", "dim_dates")):
        assert "its catalogue is 99.0" in fails(newer, *command)


def test_ingest_files_in_batches(tmp_path: Path) -> None:
    lakehouse = Lakehouse(tmp_path)
    lakehouse.land("--until", "2017-01-03", "--promotion-weeks", "0")
    files = len(list(scan(lakehouse.landing)))
    done = lakehouse.run("lakebed", "ingest", "files", "--max-files", str(files - 3))
    assert f"Batch 1: {files - 3} ready" in done.stdout
    assert "Batch 2: 3 ready" in done.stdout
    assert lakehouse.query(
        "select batch_id, count(*) from bronze.landing__files group by all order by all"
    ) == [(1, files - 3), (2, 3)]
    assert lakehouse.query(
        "select count(*), count(distinct (_file_id, _line)), max(_batch_id)"
        " from bronze.retail__transactions"
    ) == lakehouse.query(
        "select sum(rows), sum(rows), 2 from bronze.landing__files where entity = 'transactions'"
    )
    assert "Nothing new" in lakehouse.run("lakebed", "ingest", "files").stdout


def landed(name: str, size: int, modified: float) -> LandedFile:
    return LandedFile("s", "e", name, Path(name), size, int(modified * 1e9))


def test_take_stays_within_limits_but_takes_one() -> None:
    files = [landed("a", 500, 0), landed("b", 10, 0), landed("c", 10, 0)]
    assert take(files, max_bytes=100) == files[:1]
    assert take(files[1:], max_bytes=100, max_files=1) == files[1:2]
    assert take(files) == files


def test_unfinished_and_hidden_files_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "shop" / "orders"
    folder.mkdir(parents=True)
    for name in ("a.csv", "b.csv.tmp", "c.part", "_truth.csv", ".hidden"):
        (folder / name).write_text("x\n1\n")
    (tmp_path / "shop" / "_state").mkdir()
    (tmp_path / "shop" / "_state" / "d.csv").write_text("x\n")
    files = pending(tmp_path, set())
    assert [file.name for file in files] == ["shop/orders/a.csv"]
    assert pending(tmp_path, {files[0].version}) == []


@pytest.mark.parametrize(
    ("content", "status", "rows", "encoding"),
    [
        (b"h\n1\n2\n", "ready", 2, "utf-8"),
        (b"h\n1\n2", "ready", 2, "utf-8"),
        (b"h", "ready", 0, "utf-8"),
        ("h\né\n".encode("latin-1"), "ready", 1, "latin-1"),
        ("h\né\n".encode("utf-16"), "ready", 1, "utf-16"),
        (b"\xef\xbb\xbfh\n1\n", "ready", 1, "utf-8"),
        (b"", "empty", 0, ""),
        (b"\x00\x01\x02", "unreadable", 0, ""),
    ],
)
def test_one_pass_tells_how_a_file_can_be_loaded(
    tmp_path: Path, content: bytes, status: str, rows: int, encoding: str
) -> None:
    file = tmp_path / "file.csv"
    file.write_bytes(content)
    facts = inspect(file)
    assert (facts.status, facts.rows, facts.encoding) == (status, rows, encoding)
    if status == "ready":
        assert facts.header == "h"


def test_parity_of_no_lake(tmp_path: Path) -> None:
    home = tmp_path / "nowhere"
    said = fails(Lakehouse(tmp_path), "lakebed", "parity", "--keep", "--home", str(home))
    assert said.startswith(f"Error: There is no lake of DuckDB in {home}")
    assert not home.exists()
