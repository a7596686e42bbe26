"""How many dbt threads a lake with a DuckDB-file catalogue bears: what profiles.yml says is proved.

Fresh lakes are written to by several threads of one process (stress_lake.py), which is killed at a
random moment in two of three. Opened again, each lake has every commit that was acknowledged, whole
transactions only, and a catalogue that agrees with itself and with the files. Then dbt itself
builds a project of its own with that many threads, over and over.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from harness import ROOT, DbtProject
from stress_lake import connect

PROVES = ["pat-idempotent"]

#: The number that these tests prove. profiles.yml must say the same: see docs/decisions.
THREADS = 1

CONSISTENT = {
    "two live tables of one name": """
        select schema_id, table_name from meta.ducklake_table
        where end_snapshot is null group by all having count(*) > 1""",
    "two live schemas of one name": """
        select schema_name from meta.ducklake_schema
        where end_snapshot is null group by all having count(*) > 1""",
    "a live table in a dropped schema": """
        select table_name from meta.ducklake_table where end_snapshot is null and schema_id not in
        (select schema_id from meta.ducklake_schema where end_snapshot is null)""",
    "a live file of a dropped table": """
        select path from meta.ducklake_data_file where end_snapshot is null and table_id not in
        (select table_id from meta.ducklake_table where end_snapshot is null)""",
    "one file twice": """
        select data_file_id from meta.ducklake_data_file group by all having count(*) > 1""",
    "a gap between snapshots": """
        select snapshot_id from meta.ducklake_snapshot
        qualify snapshot_id - coalesce(lag(snapshot_id) over (order by snapshot_id), -1) != 1""",
    "a snapshot without its changes": """
        select snapshot_id from meta.ducklake_snapshot
        where snapshot_id not in (select snapshot_id from meta.ducklake_snapshot_changes)""",
}


def damage(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """What is wrong with the lake attached as `lakebed`; reads every table."""
    found = []
    for problem, sql in CONSISTENT.items():
        rows = connection.execute(sql.replace("meta.", "__ducklake_metadata_lakebed.")).fetchall()
        found += [f"{problem}: {row}" for row in rows]
    tables = connection.execute(
        "select table_schema, table_name, table_type from information_schema.tables"
        " where table_catalog = 'lakebed'"
    ).fetchall()
    for schema, name, kind in tables:
        connection.execute(f'select sum(hash(t)) from {schema}."{name}" t').fetchall()
        if kind == "BASE TABLE":
            files = connection.execute(
                "select data_file, delete_file from ducklake_list_files('lakebed', ?, schema => ?)",
                [name, schema],
            ).fetchall()
            for file in filter(None, (file for row in files for file in row)):
                if not Path(file).is_file():
                    found.append(f"a file of {schema}.{name} that is not there: {file}")
    return found


def lost(connection: duckdb.DuckDBPyConnection, acks: list[dict[str, Any]]) -> list[str]:
    """Acknowledged commits that are not in the lake, and transactions that are there in part."""
    ledger = Counter(
        connection.execute("select thread, turn, name, version from main.ledger").fetchall()
    )
    found = [f"twice: {entry}" for entry, count in ledger.items() if count > 1]
    for ack in acks:
        entry = (ack["thread"], ack["turn"], ack["name"], ack["version"])
        if entry not in ledger:
            found.append(f"lost from the ledger: {entry}")
    newest: dict[str, int] = {}
    for _, _, name, version in ledger:
        newest[name] = max(version, newest.get(name, 0))
    for name, version in newest.items():
        try:
            row = connection.execute(f"select max(version) from {name}").fetchone()
        except duckdb.CatalogException as error:
            found.append(str(error).splitlines()[0])
            continue
        if row != (version,):
            found.append(f"{name}: the ledger has version {version}, the table {row}")
        if name.endswith("append"):
            row = connection.execute(f"select count(distinct version) from {name}").fetchone()
            if row != (version,):
                found.append(f"{name}: {row} versions of {version}")
    return found


def stress(home: Path, threads: int, seed: int, schemas: str = "each") -> Counter[str]:
    """One lake: written to, perhaps killed, checked. Counts commits, kills, errors, damaged."""
    choice = random.Random(seed)
    catalogue, data, acks = home / "catalog.ducklake", home / "files", home / "acks"
    home.mkdir()
    kill = choice.random() < 0.67
    script = Path(__file__).with_name("stress_lake.py")
    arguments: list[object] = [
        catalogue,
        data,
        acks,
        threads,
        100_000 if kill else 30,
        seed,
        schemas,
    ]
    process = subprocess.Popen(
        [sys.executable, str(script), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
    )
    if kill:
        while process.poll() is None and not (acks.exists() and acks.stat().st_size):
            time.sleep(0.01)
        time.sleep(choice.uniform(0.0, 1.2))
        process.kill()
    code = process.wait(120)
    assert code == (-9 if kill else 0)
    lines = [json.loads(line) for line in acks.read_text().splitlines()]
    commits = [line for line in lines if "turn" in line]
    counts: Counter[str] = Counter(lakes=1, kills=int(kill), commits=len(commits))
    counts["errors"] = sum("error" in line for line in lines)
    for line in lines:
        if "error" in line:
            counts[f"error: {line['error'][:160]}"] += 1
    with connect(str(catalogue), str(data)) as connection:
        found = damage(connection) + lost(connection, commits)
    for problem in found:
        print(f"seed {seed}: {problem}")
    counts["damaged"] = int(bool(found))
    return counts


def stress_many(home: Path, threads: int, seeds: range, schemas: str = "each") -> Counter[str]:
    counts: Counter[str] = Counter()
    for seed in seeds:
        counts += stress(home / str(seed), threads, seed, schemas)
    print(threads, schemas, dict(counts))
    return counts


def project_of_many(home: Path, threads: int, models: int = 24) -> DbtProject:
    """Tables, views and three kinds of incremental models, in three schemas and two layers."""
    kinds = [
        "materialized='table'",
        "materialized='view'",
        "materialized='incremental', incremental_strategy='append'",
        "materialized='incremental', incremental_strategy='delete+insert', unique_key='id'",
        "materialized='incremental', incremental_strategy='merge', unique_key='id'",
    ]
    files = {}
    for number in range(models):
        config = f"{kinds[number % len(kinds)]}, schema='layer_{number % 3}'"
        source = f"range({(number % 4) * 500 + 3})"
        if number >= models // 2:
            source = f"{{{{ ref('model_{number - models // 2}') }}}}"
        column = "range" if source.startswith("range") else "id"
        files[f"models/model_{number}.sql"] = (
            f"{{{{ config({config}) }}}}\nselect {column} as id, '{{{{ var('run') }}}}' as run"
            f" from {source}\n"
        )
    project = DbtProject(home, files, vars={"run": "0"})
    shutil.rmtree(home / "dbt_packages", ignore_errors=True)
    (home / "packages.yml").unlink()  # nothing of Lakebed's is needed: only the adapter
    profile = yaml.safe_load((home / "profiles.yml").read_text())
    profile["lakebed_test"]["outputs"]["local"]["threads"] = threads
    project.write("profiles.yml", yaml.safe_dump(profile))
    return project


def build_many(home: Path, threads: int, lakes: int, builds: int = 3) -> None:
    """dbt's own builds: no error in any, and the rows that one thread would leave."""
    project = project_of_many(home, threads)
    for lake in range(lakes):
        if project.catalogue.parent.exists():
            project.catalogue.parent.rename(home / f"lake_{lake}")
        for build in range(builds):
            done = project.run("run", "--vars", json.dumps({"run": str(build)}))
            assert set(done.statuses.values()) == {"success"}, done.log
        with project.connect() as connection:
            assert not damage(connection)
            for number in range(0, 12):
                rows = (number % 4) * 500 + 3
                copies = builds if number % 5 == 2 else 1
                counts = connection.execute(
                    f"select count(*), max(run) from main_layer_{number % 3}.model_{number}"
                ).fetchone()
                assert counts == (rows * copies, str(builds - 1)), (lake, number, counts)


def test_profile_has_the_proved_number() -> None:
    profile = yaml.safe_load((ROOT / "profiles.yml").read_text())
    assert profile["lakebed"]["outputs"]["local"]["threads"] == THREADS


def test_checks_see_loss_and_damage(tmp_path: Path) -> None:
    stress(tmp_path / "lake", 1, 0)
    lines = [json.loads(line) for line in (tmp_path / "lake" / "acks").read_text().splitlines()]
    commits = [line for line in lines if "turn" in line]
    with connect(str(tmp_path / "lake/catalog.ducklake"), str(tmp_path / "lake/files")) as lake:
        assert not lost(lake, commits)
        lake.execute(f"delete from main.ledger where turn = {commits[-1]['turn']}")
        assert lost(lake, commits)
        assert not damage(lake)
        for file in (tmp_path / "lake" / "files").rglob("*.parquet"):
            file.unlink()
        with pytest.raises(duckdb.Error):
            damage(lake)


def test_threads_lose_nothing(tmp_path: Path) -> None:
    counts = stress_many(tmp_path, THREADS, range(6))
    assert counts["kills"] >= 3
    assert counts["commits"] > 50
    assert (counts["damaged"], counts["errors"]) == (0, 0), counts


def test_dbt_builds_with_threads(tmp_path: Path) -> None:
    build_many(tmp_path / "project", THREADS, lakes=1, builds=2)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_threads_lose_nothing_soak(tmp_path: Path) -> None:
    counts = stress_many(tmp_path, THREADS, range(1000, 1200))
    assert (counts["damaged"], counts["errors"]) == (0, 0), counts


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_dbt_builds_with_threads_soak(tmp_path: Path) -> None:
    build_many(tmp_path / "project", THREADS, lakes=10)


@pytest.mark.soak
def test_more_threads_are_still_unsafe(tmp_path: Path) -> None:
    """When this fails, DuckLake has been mended: raise THREADS, and measure again."""
    counts = stress_many(tmp_path, 4, range(20))
    assert counts["damaged"] + counts["errors"] > 0
