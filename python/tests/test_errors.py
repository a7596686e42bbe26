"""Errors of DuckDB, DuckLake and the system, provoked for real, are one line with the way out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import duckdb
import psycopg
import pytest
from lakebed.errors import explain
from lakebed.lake import load_extensions
from lakehouse import REPO, TeamLakehouse


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    with duckdb.connect() as connection:
        load_extensions(connection)
        connection.execute(f"attach 'ducklake:{tmp_path}/c.ducklake' as lake")
        connection.execute("create table lake.t as select 1 as a")
    return tmp_path / "c.ducklake"


def refused(path: str | Path) -> str:
    """What is said when the catalogue at `path` cannot be attached."""
    with duckdb.connect() as connection:
        load_extensions(connection)
        with pytest.raises(duckdb.Error) as failure:
            connection.execute(f"attach 'ducklake:{path}' as lake (read_only)")
    line = explain(failure.value)
    assert line is not None, failure.value
    assert "\n" not in line
    return line


def set_version(catalogue: Path, version: str) -> None:
    with duckdb.connect(str(catalogue)) as connection:
        connection.execute(
            "update ducklake_metadata set value = ? where key = 'version'", [version]
        )


def test_a_lake_in_use_names_the_process(catalogue: Path) -> None:
    script = f"import duckdb, sys; c = duckdb.connect({str(catalogue)!r}); print(1, flush=True)"
    holder = subprocess.Popen(
        [sys.executable, "-c", script + "; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=REPO,
    )
    try:
        assert holder.stdout
        holder.stdout.readline()
        line = refused(catalogue)
    finally:
        holder.kill()
        holder.communicate()
    assert f"{catalogue} is in use by process {holder.pid}." in line
    assert "`team`" in line


def test_a_lake_of_a_newer_ducklake_asks_for_an_upgrade(catalogue: Path) -> None:
    set_version(catalogue, "9.9")
    line = refused(catalogue)
    assert "its catalogue is 9.9, this one reads 1.0" in line
    assert "Upgrade Lakebed" in line


def test_a_lake_of_an_older_ducklake_asks_for_a_migration(catalogue: Path) -> None:
    set_version(catalogue, "0.3")
    line = refused(catalogue)
    assert "its catalogue is 0.3" in line
    assert "AUTOMATIC_MIGRATION" in line


def test_what_is_no_catalogue_is_told(tmp_path: Path) -> None:
    (tmp_path / "junk.ducklake").write_text("junk" * 1000)
    assert f"{tmp_path}/junk.ducklake is not a DuckLake catalogue" in refused(
        tmp_path / "junk.ducklake"
    )
    with duckdb.connect(str(tmp_path / "plain.ducklake")) as connection:
        connection.execute("create table t as select 1 as a")
    assert "`dbt build`" in refused(tmp_path / "plain.ducklake")


def test_an_unreachable_postgresql_is_told_without_its_password() -> None:
    line = refused("postgres:dbname=lake host=127.0.0.1 port=1 user=u password=hunter2")
    assert "Connection refused" in line
    assert "LAKEBED_POSTGRES" in line
    assert "hunter2" not in line


@pytest.mark.team
def test_a_catalogue_that_goes_away(team: TeamLakehouse) -> None:
    path = f"ducklake:postgres:{team.env['LAKEBED_POSTGRES']}"
    with duckdb.connect() as lake:
        load_extensions(lake, path)
        lake.execute(f"attach '{path}' as lake (data_path '{team.home}/lake/files/')")
        lake.execute("begin; create table lake.rows as select 1 as i")
        with psycopg.connect(team.env["LAKEBED_POSTGRES"], autocommit=True) as server:
            server.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid()"
            )
        with pytest.raises(duckdb.Error) as failure:
            lake.execute("commit")
    assert "connection to the catalogue's PostgreSQL was lost" in (explain(failure.value) or "")


def test_a_full_disk() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("only Linux has /dev/full")
    with pytest.raises(OSError, match="No space left") as failure:
        full.write_text("x")
    assert "The disk is full." in (explain(failure.value) or "")
    # As DuckDB 1.5.5 words it, seen on a file system of 3 MB.
    words = 'IO Error: Could not write file "f/a.parquet": No space left on device'
    assert "The disk is full." in (explain(duckdb.IOException(words)) or "")


def test_a_place_without_permission_is_named(tmp_path: Path) -> None:
    error = PermissionError(13, "Permission denied", str(tmp_path))
    assert str(tmp_path) in (explain(error) or "")
    assert "LAKEBED_LANDING" in (explain(error) or "")


def test_a_lost_race_asks_to_run_again(catalogue: Path) -> None:
    with duckdb.connect() as connection:
        load_extensions(connection)
        connection.execute(f"attach 'ducklake:{catalogue}' as lake; use lake")
        other = connection.cursor()
        other.execute("use lake")
        connection.execute("begin")
        other.execute("begin")
        connection.execute("update t set a = 2")
        other.execute("update t set a = 3")
        connection.execute("commit")
        with pytest.raises(duckdb.Error) as failure:
            other.execute("commit")
    assert "Run the same command again" in (explain(failure.value) or str(failure.value))


def test_an_error_of_our_own_making_is_not_explained_away() -> None:
    assert explain(ValueError("wrong")) is None
