"""`lakebed retain`: what a policy lets go is archived and gone, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from harness import POSITIONS, ROOT, DbtProject, lakebed
from lakebed.dbt import Project
from lakebed.errors import UserError
from lakebed.retain import due, policies, read_holds, run
from lakebed.snapshots import verify
from lakebed.spark.cluster import Cluster

PROVES = ["pat-retention-policy"]

HEADER = "table,column,value,reason\n"
#: id n was sold n * 10 days before 2026-01-01; every tenth at a time that nobody knows.
SALES = """
{{ config(
    materialized='incremental',
    incremental_strategy='append',
    pre_hook='{{ lakebed.advance_position() }}',
) }}
select _batch_id, id, customer, sold_at from {{ ref('bronze_sales') }}
where {{ lakebed.new_batches(ref('bronze_sales')) }}
"""
BRONZE = """
{{ config(materialized='incremental', incremental_strategy='append') }}
select
    cast({{ var('batch', 1) }} as bigint) as _batch_id,
    cast(id as bigint) as id,
    concat('C', cast(id % 5 as {{ dbt.type_string() }})) as customer,
    case when id % 10 > 0 then
        {{ lakebed.add_dateparts('day', '-10 * id', "cast('2026-01-01' as timestamp)") }}
    end as sold_at
from {{ ref('ids') }}
where id between {{ var('first', 1) }} and {{ var('last', 99) }}
"""
POLICY = "{column: sold_at, days: 400, archive: archives}"


def schema(policy: str = POLICY, more: str = "") -> str:
    return f"""
models:
  - name: sales
    config: {{meta: {{retention: {policy}}}}}
  - name: total
    config: {{materialized: table{more}}}
"""


FILES = {
    "seeds/ids.csv": "id\n" + "\n".join(map(str, range(1, 151))) + "\n",
    "models/bronze_sales.sql": BRONZE,
    "models/sales.sql": SALES,
    "models/total.sql": "select count(*) as sales, max(sold_at) as sold_at from {{ ref('sales') }}",
    "models/schema.yml": schema(),
    "holds.csv": HEADER,
}


def made(folder: Path, cluster: Cluster | None) -> DbtProject:
    own = {
        "legal_holds": "holds.csv",
        "lakebed_ops_schema": f"ops_{random.randrange(10**9)}",
        "as_of": "2026-01-01 12:00:00",
    }
    project = DbtProject(folder, FILES, own, POSITIONS, cluster)
    project.ops = own["lakebed_ops_schema"]  # type: ignore[attr-defined]
    project.run("build")
    return project


def ids(project: DbtProject) -> list[int]:
    return [row[0] for row in project.query("select id from sales order by id")]


OLD = [n for n in range(1, 100) if n % 10 > 0 and n * 10 > 400]


@pytest.mark.soak_on("iceberg")
def test_old_rows_are_archived_and_gone(lake: Cluster | None, tmp_path: Path) -> None:
    project = made(tmp_path, lake)
    project.write("holds.csv", f"{HEADER}{project.schema}.sales,customer,C3,case 17\n")
    held = [n for n in OLD if n % 5 == 3]
    gone = [n for n in OLD if n % 5 != 3]
    kept = [n for n in range(1, 100) if n not in gone]

    shown = lakebed(project, "retain", "plan").stdout
    assert f"{project.schema}.sales" in shown
    assert f" {len(gone)} " in shown
    assert f" {len(held)} " in shown
    assert ids(project) == list(range(1, 100))
    assert not (tmp_path / "archives").exists()

    log = lakebed(project, "retain", "run").stdout
    assert f"{len(gone)} rows deleted" in log
    assert ids(project) == kept
    folder = tmp_path / "archives" / f"{project.schema}.sales" / "until-2024-11-27"
    assert verify(folder)["rows"] == len(gone)
    lakebed(project, "import", str(folder), f"{project.schema}.archived")
    archived = project.query(f"select id from {project.schema}.archived order by id")
    assert [row[0] for row in archived] == gone

    # The next build brings new rows, and none of the old.
    project.run("build", "--vars", "{batch: 2, first: 100, last: 110}")
    assert ids(project) == [*kept, *range(100, 111)]
    # What is released, and what came late, goes with the next run, to an archive of its own.
    project.write("holds.csv", HEADER)
    lakebed(project, "retain", "run")
    left = [n for n in kept if n not in held] + [100, 110]
    assert ids(project) == left
    assert verify(folder.with_name(f"{folder.name}-2"))["rows"] == len(held) + 9
    assert "0 " in lakebed(project, "retain", "plan").stdout
    lakebed(project, "retain", "run")
    assert ids(project) == left
    states = project.query(f"select state, row_count from {project.ops}.retention order by 1, 2")  # type: ignore[attr-defined]
    assert states == [
        ("archiving", 0),
        ("archiving", 0),
        ("deleted", len(held) + 9),
        ("deleted", len(gone)),
    ]


def test_what_is_wrong_is_refused_before_anything_goes(tmp_path: Path) -> None:
    def refusal(policy: Any, hold: str = "", built: str = "incremental") -> str:
        entry = {
            "table": "main.sales",
            "policy": policy,
            "built": built,
            "columns": [{"name": "sold_at", "type": "timestamp"}],
            "promise": 7,
        }
        (tmp_path / "holds.csv").write_text(f"{HEADER}{hold}\n")
        facts = {"as_of": "2026-01-01", "tables": [entry]}
        with pytest.raises(UserError) as error:
            policies(facts, read_holds(tmp_path / "holds.csv"), tmp_path)
        return str(error.value)

    good = {"column": "sold_at", "days": 400}
    assert "shorter than the 7 days of time travel" in refusal({**good, "days": 6})
    assert "has no column 'colour'" in refusal({**good, "column": "colour"})
    assert "days must be a number" in refusal({**good, "days": "400"})
    assert "no setting 'to'" in refusal({**good, "to": "x"})
    assert "must be {column, days, archive}" in refusal(400)
    assert "each build makes it anew (table)" in refusal(good, built="table")
    assert "must be dbt_valid_to" in refusal(good, built="snapshot")
    assert "main.sale: no table" in refusal(good, "main.sale,sold_at,x,typo")
    assert "it has no column 'colour'" in refusal(good, "main.sales,colour,red,typo")
    assert "holds.csv:2 is no hold" in refusal(good, "main.sales,sold_at,,typo")
    assert "takes no column" in refusal(good, "*,sold_at,x,typo")

    project = made(tmp_path / "project", None)
    project.write("models/schema.yml", schema(more=", meta: {retention: {column: x, days: 9}}"))
    error = lakebed(project, "retain", "run", check=False).stderr
    assert error.startswith("Error: nothing was deleted")
    project.write("models/schema.yml", schema())
    (tmp_path / "project" / "holds.csv").unlink()
    assert "cannot be read" in lakebed(project, "retain", "run", check=False).stderr
    project.write("holds.csv", f"{HEADER}*,,,all of it\n")
    assert "all: all of it" in lakebed(project, "retain", "run").stdout
    assert ids(project) == list(range(1, 100))


def test_a_row_that_comes_between_archive_and_deletion(tmp_path: Path) -> None:
    """It is not deleted unarchived: the run stops, and the next one archives it with the others."""
    folder = made(tmp_path, None)
    project = Project(tmp_path.resolve())
    old = [*OLD, 999]

    def late(_table: str, text: str) -> None:
        if "archived" in text:
            with folder.connect() as connection:
                connection.execute("insert into sales values (1, 999, 'C9', '2019-01-01')")

    tables, left = due(project)
    with pytest.raises(UserError, match="was changed while it was archived"):
        run(project, tables, left, late)
    assert ids(folder) == [*range(1, 100), 999]
    lakebed(folder, "retain", "run")
    assert ids(folder) == [n for n in range(1, 100) if n not in old]
    places = list((tmp_path / "archives" / "main.sales").iterdir())
    assert [verify(place)["rows"] for place in places] == [len(old)]


@pytest.mark.soak
def test_a_killed_run_is_run_again(tmp_path: Path) -> None:
    """Whatever was done: each old row is in exactly one archive, and in the table no more."""
    project = made(tmp_path, None)
    rng = random.Random(4)
    for number in range(3):
        running = subprocess.Popen(
            [sys.executable, "-c", "from lakebed.cli import main; main()", "retain", "run"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # Wait for the archive to be noted; then it is at work.
        limit = time.monotonic() + 60
        while not (tmp_path / "archives").exists() and running.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.05)
        time.sleep(rng.uniform(0.5, 5.0))
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        first = 100 + 10 * number
        late = {"batch": number + 2, "first": first, "last": first + 9}
        project.run("build", "--vars", str(late))
    lakebed(project, "retain", "run")
    old = [n for n in range(1, 130) if n % 10 > 0 and n * 10 > 400]
    assert ids(project) == [n for n in range(1, 130) if n not in old]
    with project.connect() as connection:
        archived = connection.execute(
            f"select id from read_parquet('{tmp_path}/archives/main.sales/*/data/*.parquet')"
            " order by id"
        ).fetchall()
    assert [row[0] for row in archived] == old
    for folder in (tmp_path / "archives" / "main.sales").iterdir():
        verify(folder)
