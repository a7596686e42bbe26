"""Erasure on Spark, of Delta and Iceberg: killed anywhere, it ends with not a byte left."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from itertools import count
from pathlib import Path

import pytest
import shop
import warm
from harness import DbtProject, lakebed
from lakebed.erase.scan import scan
from lakebed.snapshots import verify
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session

PROVES = ["pat-gdpr-erase"]

pytestmark = pytest.mark.spark

#: Tables, and the columns that name a customer there.
TABLES = {
    "bronze.bronze_shop__customers": "_record",
    "bronze.bronze_shop__orders": "_record",
    "silver.silver_shop__customers": "customer",
    "silver.silver_shop__orders": "customer",
    "quarantine.quarantine_shop__orders": "_record",
    "snapshots.snap_customers": "customer",
}
#: One whose lines come from bronze, and one whose rows are deleted.
EXPORTED = ("silver.silver_shop__orders", "snapshots.snap_customers")
WHO = ("customer", shop.ADA)
OTHERS = f"not contains({{column}}, '{shop.ADA}') and not contains({{column}}, 'erased')"


def rows(project: DbtProject, where: str) -> dict[str, list[str]]:
    """All rows of all tables; `where` may use {column}, which names the customer."""
    assert project.cluster
    found = {}
    with connect_session(project.cluster.connect_url) as session:
        for table, column in TABLES.items():
            frame = session.sql(
                f"select * from {project.schema}_{table} where {where.format(column=column)}"
            )
            hidden = [c for c in frame.columns if c in ("_file_id", "_batch_id", "ingested_at")]
            found[table] = sorted(repr(row) for row in frame.drop(*hidden).collect())
    return found


def of_export(project: DbtProject, name: str) -> list[str]:
    folder = project.folder / "exports" / name
    assert verify(folder)
    return sorted(map(repr, project.query(f"select * from parquet.`{folder}/data`")))


def traces(project: DbtProject) -> set[str]:
    """Kinds of files with a trace of Ada in them."""
    assert project.cluster
    home = Path(project.cluster.home)
    folders = [project.folder / name for name in ("landing", "exports", "target", "logs")]
    folders += [home / "metastore", home / "logs", *home.glob(f"warehouse/*{project.schema}*")]
    folders += home.glob(f"warehouse/*{shop.ops_schema(project)}*")
    # Iceberg keeps the first 16 letters of a smallest value, nearly those of a largest.
    cut = [value[:15] for value in shop.IDENTIFYING if len(value) > 16]
    looked, found = scan(folders, [*shop.IDENTIFYING, *cut])
    assert looked > 20
    return {"".join(Path(trace.path).suffixes[-2:]) + " " + trace.how for trace in found}


def versions(project: DbtProject) -> int:
    """The sum of the newest versions of all tables."""
    assert project.cluster
    found: Counter[Path] = Counter()
    for pattern in ("_delta_log/*.json", "metadata/*.metadata.json"):
        for path in Path(project.cluster.home).glob(f"warehouse/*/*/{pattern}"):
            number = int(re.match(r"\d+", path.name)[0])  # type: ignore[index]
            found[path.parent] = max(found[path.parent], number)
    return found.total()


def work(project: DbtProject) -> list[str]:
    """What has begun and not ended."""
    table = f"{shop.ops_schema(project)}.work_in_progress"
    return [what for (what,) in project.query(f"select what from {table} order by began_at")]


def refused_beside_a_build(project: DbtProject) -> None:
    """One that runs, and one that was killed: nobody but a person can tell them apart."""
    assert work(project) == []
    build = project.start("build")
    while not work(project):
        assert build.poll() is None
        time.sleep(0.05)
    refused = shop.erase(project, "run", *WHO, check=False)
    assert "dbt build (" in refused.stderr
    assert "has not ended" in refused.stderr
    os.killpg(build.pid, signal.SIGKILL)
    build.communicate()
    assert work(project) == ["dbt build"]


def refused_beside_an_erasure(project: DbtProject) -> None:
    for command in (
        ("dbt", "build"),
        ("lakebed", "retain", "run"),
        ("lakebed", "export", f"{project.schema}_{EXPORTED[0]}", "exports/more"),
        ("lakebed", "convert", "sync", "gold.none"),
    ):
        refused = warm.run(command, project.folder, shop.environment(project))
        assert refused.returncode != 0
        assert "has not ended: nothing may be written" in refused.stdout + refused.stderr
        assert "START" not in refused.stdout
    assert work(project) == ["erasure"]


#: What writes leave behind their rows: deletion vectors or delete files hide rows of a file that
#: stays, a change feed has files of its own.
HIDING = {
    "delta": "'delta.enableDeletionVectors' = true, 'delta.enableChangeDataFeed' = true,"
    " 'delta.checkpointInterval' = '7'",
    "iceberg": "'write.delete.mode' = 'merge-on-read', 'write.update.mode' = 'merge-on-read',"
    " 'write.merge.mode' = 'merge-on-read'",
}
LEFT = {
    "delta": {".crc bytes", ".json bytes", ".snappy.parquet inside Parquet"},
    "iceberg": {".avro inside Avro", ".parquet inside Parquet"},
}


def filled(lake: Cluster, folder: Path) -> tuple[DbtProject, tuple[str, ...]]:
    """A shop, whose writes hide rows, and the tables that it has exports and backups of."""
    project = shop.project(folder, lake, small=True)
    shop.fill(project, builds=1)
    exported = EXPORTED if lake.table_format == "delta" else ()  # Parquet, whatever the table's
    for name in exported:
        export = folder / "exports" / name
        lakebed(project, "export", f"{project.schema}_{name}", str(export))
        shutil.copytree(export, folder / "backups" / name)
    assert LEFT[lake.table_format] <= traces(project)
    table = f"{project.schema}_silver.silver_shop__orders"
    project.query(f"alter table {table} set tblproperties ({HIDING[lake.table_format]})")
    return project, exported


def check_nothing_is_left(
    project: DbtProject, exported: tuple[str, ...], everything: dict[str, list[str]]
) -> None:
    """No byte of her, no row of others changed or lost, and exports are what their tables are."""
    assert traces(project) == set()
    assert work(project) == []
    after = rows(project, "true")
    for name in TABLES:
        kept = "orders" in name and "customers" not in name
        lost = 1 if kept and "silver" not in name else 0  # the malformed line
        assert len(after[name]) == len(everything[name]) - (lost if kept else 1), name
    value = ("--value", shop.IDENTIFYING[1])
    said = shop.erase(project, "verify", *WHO, *value).stdout
    assert said.startswith(f"Nothing is left in 6 tables{' and 2 exports' if exported else ''}")
    for name in exported:
        assert of_export(project, name) == sorted(
            map(repr, project.query(f"select * from {project.schema}_{name}"))
        )
    states = project.query(f"select distinct state from {shop.ops_schema(project)}.erasures")
    assert sorted(states) == [("complete",), ("started",)]


@pytest.mark.parametrize(
    ("lake", "commits"),
    [
        pytest.param("delta", (10, 30), id="delta, while history goes"),
        pytest.param("delta", (2, 9), id="delta, while rows go", marks=pytest.mark.soak),
        pytest.param("iceberg", (10, 20), id="iceberg, while history goes"),
        pytest.param("iceberg", (2, 9), id="iceberg, while rows go", marks=pytest.mark.soak),
    ],
    indirect=["lake"],
)
def test_killed_and_run_again_nothing_is_left(
    lake: Cluster, tmp_path: Path, commits: tuple[int, int]
) -> None:
    project, exported = filled(lake, tmp_path / "shop")
    before = rows(project, OTHERS)
    everything = rows(project, "true")
    table = f"{project.schema}_silver.silver_shop__orders"
    if lake.table_format == "iceberg":
        # A tag keeps a version; a branch is one that nobody looks at.
        project.query(f"alter table {table} create tag kept")
        project.query(f"alter table {table} create branch other")
        refused = shop.erase(project, "run", *WHO, check=False)
        assert "has a branch 'other'" in refused.stderr
        assert rows(project, "true") == everything
        project.query(f"alter table {table} drop branch other")

    if lake.table_format == "delta":
        refused_beside_a_build(project)
        assert rows(project, "true") == everything

    # By commits, whatever the machine's speed.
    goal = versions(project) + random.Random(4).randint(*commits)
    run = shop.start_erasure(project, "run", "--nothing-runs", *WHO)
    while run.poll() is None and versions(project) < goal:
        time.sleep(0.05)
    assert run.returncode is None, "it ended before it was killed"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert rows(project, OTHERS) == before
    if lake.table_format == "delta":
        refused_beside_an_erasure(project)
    shop.erase(project, "run", *WHO)

    check_nothing_is_left(project, exported, everything)
    assert rows(project, OTHERS) == before
    properties = dict(project.query(f"show tblproperties {table}"))
    if lake.table_format == "delta":
        assert properties["delta.checkpointInterval"] == "7"
    assert "delta.deletedFileRetentionDuration" not in properties

    if lake.table_format == "iceberg":
        return
    # A copy that no erasure knew of does not bring her back.
    for name in exported:
        again = ("import", str(project.folder / "backups" / name), f"{project.schema}.again")
        back = lakebed(project, *again, check=False, env={"LAKEBED_ERASURE_KEY": shop.KEY})
        assert "rows of a customer who was erased from this lake" in back.stderr
    # Nor does a late file.
    shop.land(
        project,
        "orders",
        "4.csv",
        shop.ORDERS
        + f"960,{shop.ADA},{shop.IDENTIFYING[1]},,5.00,2024-01-05\n"
        + "961,cust-00002,c2@example.org,,5.00,2024-01-05\n"
        + f"962;{shop.ADA};x\n",
    )
    chosen = ("build", "--select", "bronze_landing__files", "bronze_shop__orders+")
    project.run(*chosen, env={"LAKEBED_ERASURE_KEY": shop.KEY})
    assert sorted(
        project.query(f"select customer, count(*) from {table} where order_id > 950 group by all")
    ) == [("cust-00001", 1), ("cust-00002", 1), ("erased", 1)]
    assert {trace.split()[0] for trace in traces(project)} <= {".csv"}


@pytest.mark.soak
@pytest.mark.timeout(6 * 3600)
@pytest.mark.parametrize("lake", ["delta", "iceberg"], indirect=True)
def test_killed_anywhere_it_ends_the_same_soak(lake: Cluster, tmp_path: Path) -> None:
    """Fifty kills: up to five of each erasure, wherever it is."""
    rng, kills = random.Random(11), 0
    for life in count():
        project, exported = filled(lake, tmp_path / f"shop{life}")
        before, everything = rows(project, OTHERS), rows(project, "true")
        for _ in range(5):
            run = shop.start_erasure(project, "run", "--nothing-runs", *WHO)
            try:
                run.wait(rng.uniform(5, 60))
                break
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                run.wait()
                kills += 1
            assert rows(project, OTHERS) == before, (life, kills)
        shop.erase(project, "run", *WHO)
        check_nothing_is_left(project, exported, everything)
        assert rows(project, OTHERS) == before, (life, kills)
        print(f"{life + 1} erasures, {kills} kills", flush=True)
        if kills >= 50:
            break
