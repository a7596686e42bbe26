"""Erasing 1, 100 and 10,000 people from a large table, against writing the table anew without them;
and the same from a lake of a tenth. Rows of a person lie together, or everywhere.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import duckdb
from lakebed.lake import load_extensions

from benchmarks.measure import REPO, Result, Variant, environment

ROWS, PEOPLE = 100_000_000, 1_000_000
SIZES = (1, 100, 10_000)
PROJECT = {
    "dbt_project.yml": """
name: bench
version: "1.0.0"
profile: lakebed
models: {lakebed: {+enabled: false}}
seeds: {lakebed: {+enabled: false}}
snapshots: {lakebed: {+enabled: false}}
data_tests: {lakebed: {+enabled: false}}
exposures: {lakebed: {+enabled: false}}
flags: {send_anonymous_usage_stats: false, require_generic_test_arguments_property: true}
""",
    "packages.yml": json.dumps({"packages": [{"local": str(REPO)}]}),
    "models/sales.sql": "select 1 as person",
    "models/sales.yml": """
models:
  - name: sales
    config: {materialized: table, meta: {erase: {person: delete}}}
    columns: [{name: person, data_type: bigint, config: {meta: {subject: person}}}]
""",
}


def connect(home: Path) -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect()
    load_extensions(connection)
    connection.execute("set threads = 2")
    (home / "lake").mkdir(parents=True, exist_ok=True)
    files = f"(data_path '{home}/lake/files/')"
    connection.execute(f"attach 'ducklake:{home}/lake/catalog.ducklake' as lakebed {files}")
    connection.execute("use lakebed")
    return connection


def fill(home: Path, rows: int, together: bool) -> None:
    """Files of a million rows; `together`: each has its own people."""
    people = PEOPLE * rows // ROWS
    person = f"range // {rows // people}" if together else f"hash(range) % {people}"
    with connect(home) as connection:
        connection.execute("create table sales (id bigint, person bigint, shop int, amount double)")
        step = 1_000_000
        for first in range(0, rows, step):
            connection.execute(
                f"insert into sales select range, {person}, hash(range + 1) % 500,"
                f" (hash(range + 2) % 10000) / 100 from range({first}, {first + step})"
            )


def timed(home: Path, *command: str) -> float:
    env = environment(home) | {"LAKEBED_ERASURE_KEY": "a secret of the benchmarks, long enough"}
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=home / "project", env=env, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{command[:4]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return round(time.perf_counter() - start, 2)


def rewritten(home: Path, people: list[int]) -> float:
    """By hand: the table without them, all old versions and their files gone."""
    keys = ", ".join(map(str, people))
    with connect(home) as connection:
        start = time.perf_counter()
        connection.execute(
            f"create table other as select * from sales where person not in ({keys})"
        )
        connection.execute("drop table sales")
        connection.execute("alter table other rename to sales")
        connection.execute("call ducklake_expire_snapshots('lakebed', older_than => now())")
        connection.execute("call ducklake_cleanup_old_files('lakebed', cleanup_all => true)")
        return round(time.perf_counter() - start, 2)


def project(home: Path) -> None:
    for name, text in PROJECT.items():
        file = home / "project" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    timed(home, "dbt", "--quiet", "deps")


def erasures(home: Path, rows: int, together: bool) -> list[Variant]:
    project(home)
    fill(home, rows, together)
    lies = f"{rows // 1_000_000} M rows, " + ("together" if together else "everywhere")
    # A person whom nobody knows: what a run costs before it erases anything.
    people = PEOPLE * rows // ROWS
    idle = timed(home, "lakebed", "erase", "plan", "person", str(people - 1))
    found = [Variant(f"{lies}: plan", [idle], 0.0)]
    seconds = {}
    for first, size in enumerate(SIZES):  # nobody twice
        chosen = list(range(first, people, people // (size + 1)))[:size]
        keys = home / "keys"
        keys.write_text("\n".join(map(str, chosen)), encoding="utf-8")
        erase = ("lakebed", "erase", "run", "person", "--keys-file", str(keys))
        seconds[size] = timed(home, *erase)
    anew = rewritten(home, list(range(3, people, people // 2))[:1])
    for size, spent in seconds.items():
        note = f"{spent / anew:.2f} of writing it anew; less the plan {(spent - idle) / anew:.2f}"
        found.append(Variant(f"{lies}: {size:,} erased", [spent], round(spent / anew, 2), note))
    found.append(Variant(f"{lies}: written anew by hand", [anew], 1.0))
    with connect(home) as connection:
        left = connection.execute("select count(distinct person) from sales").fetchone()
    assert left == (people - sum(SIZES) - 1,), left
    return found


def measure(home: Path) -> Result:
    os.environ.pop("LAKEBED_DOMAINS", None)
    variants = []
    for rows in (ROWS // 10, ROWS):
        for together in (True, False):
            place = home / f"{rows}-{together}"
            variants += erasures(place, rows, together)
    return Result("erase", "Erasing people from a table; ratios to writing it anew", variants)
