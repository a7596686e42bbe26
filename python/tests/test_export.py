"""`lakebed export` and `import`: the same rows, or one clear line; nothing half-written."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import ROOT, DbtProject, lakebed
from lakebed.errors import UserError
from lakebed.snapshots import verify
from lakebed.spark.cluster import Cluster

PROVES = ["pat-snapshot-export"]

#: A row of each kind of value, NULLs among them.
THINGS = """
select
    cast(id as bigint) as id,
    cast(case when id % 3 > 0 then id * 1.25 end as decimal(12, 2)) as price,
    cast(case when id % 2 = 0 then 'ä, "' end as {{ dbt.type_string() }}) as note,
    cast(id as double) / 7 as share,
    id % 2 = 0 as is_even,
    cast('2024-02-29' as date) as sold_on,
    cast('2024-02-29 23:59:59.123456' as timestamp) as sold_at
from {{ ref('ids') }}
"""
FILES = {
    "seeds/ids.csv": "id\n" + "\n".join(map(str, range(50))) + "\n",
    "models/things.sql": THINGS,
    "models/none.sql": "select * from {{ ref('things') }} where id < 0",
    "models/schema.yml": """
models:
  - {name: things, config: {materialized: table}}
  - {name: none, config: {materialized: table}}
""",
}


@pytest.fixture(scope="module")
def project(lake: Cluster | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DbtProject]:
    made = DbtProject(tmp_path_factory.mktemp("project"), FILES, None, None, lake)
    made.run("build")
    return made


@pytest.mark.soak_on("iceberg")
def test_what_is_exported_comes_back(project: DbtProject, tmp_path: Path) -> None:
    table, folder = f"{project.schema}.things", tmp_path / "made" / "things"
    said = lakebed(project, "export", table, str(folder)).stdout
    sha256 = said.split("sha256 ")[1].strip()
    assert said.startswith("50 rows")
    assert verify(folder, sha256)["rows"] == 50
    assert sorted(path.name for path in folder.parent.iterdir()) == ["things"]
    lakebed(project, "import", str(folder), f"{project.schema}.again", "--sha256", sha256)
    assert project.table_hash(f"{project.schema}.again") == project.table_hash(table)

    some = tmp_path / "some"
    lakebed(project, "export", table, str(some), "--where", "id < 10 and note is null")
    assert verify(some)["rows"] == 5
    empty = tmp_path / "empty"
    lakebed(project, "export", f"{project.schema}.none", str(empty))
    lakebed(project, "import", str(empty), f"{project.schema}.none_again")
    assert project.query(f"select count(*) from {project.schema}.none_again") == [(0,)]

    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = lakebed(project, "export", table, str(folder), check=False)
    assert refused.stderr == (
        f"Error: {folder} is there already: an export never writes over anything.\n"
    )
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused = lakebed(project, "import", str(folder), table, check=False)
    assert "already; nothing was imported" in refused.stderr
    refused = lakebed(
        project, "export", f"{project.schema}.nothing", str(tmp_path / "x"), check=False
    )
    assert "there is no table" in refused.stderr
    assert not (tmp_path / "x").exists()
    assert not list(tmp_path.glob(".x*"))

    # Checksums that fit, rows that do not: a manifest made by hand.
    manifest = json.loads((empty / "manifest.json").read_text())
    (empty / "manifest.json").write_text(json.dumps({**manifest, "rows": 1}))
    refused = lakebed(project, "import", str(empty), f"{project.schema}.forged", check=False)
    assert "not those that the manifest speaks of" in refused.stderr
    with pytest.raises(Exception, match=r"forged"):
        project.query(f"select * from {project.schema}.forged")


def test_what_was_changed_is_refused(tmp_path: Path) -> None:
    project = DbtProject(tmp_path / "project", FILES)
    project.run("build")
    good = tmp_path / "good"
    lakebed(project, "export", "main.things", str(good))
    sha256 = verify(good)["sha256"]

    def changed(number: int) -> Path:
        shutil.copytree(good, copy := tmp_path / f"changed{number}")
        return copy

    file = next((good / "data").iterdir()).name
    content = (good / "data" / file).read_bytes()
    for position in range(0, len(content), len(content) // 7):
        copy = changed(position)
        flipped = bytes([content[position] ^ 1])
        (copy / "data" / file).write_bytes(content[:position] + flipped + content[position + 1 :])
        with pytest.raises(UserError, match="is not the file that was exported"):
            verify(copy)
    (changed(10**6) / "data" / file).unlink()
    shutil.copy(good / "data" / file, changed(10**7) / "data" / "more.parquet")
    (changed(10**8) / "manifest.json").write_text("{}")
    (changed(10**9) / "manifest.json").unlink()
    for number, message in (
        (10**6, "is missing"),
        (10**7, "is not in its manifest"),
        (10**8, "is damaged"),
        (10**9, "is no complete export"),
    ):
        with pytest.raises(UserError, match=message):
            verify(tmp_path / f"changed{number}")
    forged = changed(10**10)
    manifest = json.loads((forged / "manifest.json").read_text())
    (forged / "manifest.json").write_text(json.dumps({**manifest, "where": "1 = 1"}))
    verify(forged)
    refused = lakebed(
        project, "import", str(forged), "main.t", "--sha256", sha256, check=False
    ).stderr
    assert refused.startswith(f"Error: {forged}/manifest.json was changed")


def test_a_killed_export_leaves_nothing_that_looks_complete(tmp_path: Path) -> None:
    project = DbtProject(tmp_path / "project", FILES)
    project.run("build")
    with project.connect() as connection:
        connection.execute(
            "create table many as select range as id, hash(range) as h from range(8000000)"
        )
    folder = tmp_path / "export"
    rng = random.Random(2)
    kills = 0
    for _ in range(2):
        run = subprocess.Popen(
            [
                *(sys.executable, "-c", "from lakebed.cli import main; main()"),
                *("export", "main.many", str(folder)),
            ],
            cwd=project.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT / "python")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        # At work: what it has written so far is beside its place.
        limit = time.monotonic() + 60
        while not list(tmp_path.glob("*.partial/data/*")) and run.poll() is None:
            assert time.monotonic() < limit
            time.sleep(0.01)
        time.sleep(rng.uniform(0.0, 0.3))
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        if folder.exists():
            assert verify(folder)["rows"] == 8_000_000
            shutil.rmtree(folder)
        else:
            kills += 1
    assert kills, "it was never at work"
    lakebed(project, "export", "main.many", str(folder))
    assert verify(folder)["rows"] == 8_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", "project"]
