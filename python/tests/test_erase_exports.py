"""Erasure reaches exports: they become what the tables that they are of became."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
import shop
from harness import DbtProject, lakebed
from lakebed import snapshots
from lakebed.erase.scan import scan
from lakebed.errors import UserError

PROVES = ["pat-gdpr-erase"]

TABLES = (
    "main_bronze.bronze_shop__customers",
    "main_bronze.bronze_shop__orders",
    "main_silver.silver_shop__customers",
    "main_silver.silver_shop__orders",
    "main_quarantine.quarantine_shop__orders",
    "main_snapshots.snap_customers",
    "main.dim_customers",
    "main.fct_orders",
)
WHO = ("customer", shop.ADA)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """A shop with an export of each table; it is copied, never changed."""
    project = shop.project(tmp_path_factory.mktemp("shop") / "shop")
    shop.fill(project)
    for table in TABLES:
        lakebed(project, "export", table, f"exports/{table}")
    return project


@pytest.fixture
def ours(filled: DbtProject) -> Iterator[DbtProject]:
    with shop.restored(filled):
        yield filled


def of_table(project: DbtProject, table: str) -> list[str]:
    return sorted(map(repr, project.query(f"select * from {table}")))


def of_export(folder: Path) -> list[str]:
    assert snapshots.verify(folder)
    rows = duckdb.sql(f"select * from read_parquet('{folder}/data/*.parquet')").fetchall()
    return sorted(map(repr, rows))


def trace_of_ada(project: DbtProject) -> bool:
    return bool(scan([project.folder / "exports"], shop.IDENTIFYING)[1])


def test_an_export_becomes_what_its_table_became(ours: DbtProject) -> None:
    exports = ours.folder / "exports"
    lakebed(ours, "export", "main.agg_orders", "exports/agg")
    lakebed(ours, "export", "main.fct_orders", "exports/some", "--where", "order_id < 0")
    hers = ("--where", f"customer = '{shop.ADA}' or customer = 'cust-00002'")
    asked = lakebed(ours, "export", "main.fct_orders", "exports/asked", *hers).stdout
    before = {name: snapshots.verify(exports / name)["sha256"] for name in ("agg", "some")}
    backups = ours.folder / "backups"
    shutil.copytree(exports, backups)
    for table in TABLES:
        assert of_export(exports / table) == of_table(ours, table)
    assert trace_of_ada(ours)
    assert (
        f"31  anonymise export {exports}/main.fct_orders" in shop.erase(ours, "plan", *WHO).stdout
    )

    assert "31  anonymise" in shop.erase(ours, "run", *WHO).stdout
    assert not trace_of_ada(ours)
    for table in TABLES:
        assert of_export(exports / table) == of_table(ours, table), table
    assert before == {name: snapshots.verify(exports / name)["sha256"] for name in before}
    assert not list(exports.glob(".*"))
    sha256 = asked.split("sha256 ")[1].strip()
    refused = lakebed(ours, "check-export", "exports/asked", "--sha256", sha256, check=False)
    assert "manifest.json was changed by erasure " in refused.stderr
    # What is imported is without her, too.
    secret = {"LAKEBED_ERASURE_KEY": shop.KEY}
    lakebed(ours, "import", "exports/asked", "main.again", env=secret)
    assert ours.query("select customer, count(*) > 0 from main.again group by 1 order by 1") == [
        ("cust-00002", True),
        ("erased", True),
    ]
    assert "Nothing is left in 9 tables and 10 exports" in shop.erase(ours, "verify", *WHO).stdout

    # A copy that no erasure knew of does not bring her back, whatever table it is of.
    for table in ("main_bronze.bronze_shop__orders", "main_snapshots.snap_customers", "asked"):
        refused = lakebed(ours, "import", f"backups/{table}", "main.back", check=False, env=secret)
        assert "rows of a customer who was erased from this lake" in refused.stderr, table
    blind = lakebed(ours, "import", "backups/asked", "main.back", check=False)
    assert "LAKEBED_ERASURE_KEY is not the key" in blind.stderr
    shop.erase(ours, "run", *WHO, "--export", "backups/asked")
    for name in ("asked", "agg", "some"):
        lakebed(ours, "import", f"backups/{name}", f"main.back_{name}", env=secret)


def test_killed_while_it_writes_them(ours: DbtProject) -> None:
    exports = ours.folder / "exports"
    for _ in range(2):
        run = shop.start_erasure(ours, "run", *WHO)
        while not list(exports.glob(".*.partial/data/*")):
            assert run.poll() is None, "it ended before it was killed"
            time.sleep(0.001)
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
    assert trace_of_ada(ours)
    shop.erase(ours, "run", *WHO)
    assert not trace_of_ada(ours)
    for table in TABLES:
        assert of_export(exports / table) == of_table(ours, table), table
    assert sorted(path.name for path in exports.iterdir()) == sorted(TABLES)


def test_killed_between_its_renames(tmp_path: Path, filled: DbtProject) -> None:
    old, folder = filled.folder / "exports/main.fct_orders", tmp_path / "export"
    shutil.copytree(old, folder)
    sha256 = snapshots.verify(folder)["sha256"]

    def rewrite(killed: bool) -> None:
        def write(data: Path) -> dict[str, object]:
            shutil.copytree(folder / "data", data)
            return {}

        with pytest.MonkeyPatch.context() as patch:
            if killed:
                patch.setattr(Path, "rename", rename)
                patch.setattr(shutil, "rmtree", lambda *_, **__: None)
            snapshots.rewrite(folder, write, "erasure 1")

    renames, really = iter([True, False]), Path.rename

    def rename(path: Path, target: Path) -> Path:
        if not next(renames):
            raise KeyboardInterrupt
        return really(path, target)

    with pytest.raises(KeyboardInterrupt):
        rewrite(killed=True)
    assert not folder.exists()
    snapshots.restore(folder)
    assert snapshots.verify(folder)["sha256"] == sha256
    # Killed after the second rename: the new one is there, and the old one not yet gone.
    rewrite(killed=False)
    now = snapshots.verify(folder)["sha256"]
    shutil.copytree(old, tmp_path / ".export.replaced")
    snapshots.restore(folder)
    assert snapshots.verify(folder)["sha256"] == now != sha256
    left = {
        path.name for path in tmp_path.iterdir() if not path.name.endswith((".lock", "partial"))
    }
    assert left == {"export"}


def test_what_is_not_there_is_said_and_what_is_damaged_refused(ours: DbtProject) -> None:
    exports = ours.folder / "exports"
    shutil.move(exports / "main.fct_orders", moved := ours.folder / "moved")
    lost = "main.fct_orders, an export of main.fct_orders, is not there: deleted"
    assert lost in shop.erase(ours, "plan", *WHO).stderr
    assert f"export {moved}" in shop.erase(ours, "plan", *WHO, "--export", str(moved)).stdout
    assert "(not there)" in lakebed(ours, "exports").stdout
    still = lakebed(ours, "exports", "--forget", "exports/main.dim_customers", check=False)
    assert "is still there: delete it first" in still.stderr
    assert "main.fct_orders" not in (
        lakebed(ours, "exports", "--forget", "exports/main.fct_orders").stdout
    )
    unknown = lakebed(ours, "exports", "--forget", "exports/main.fct_orders", check=False)
    assert "The lake knows of no export" in unknown.stderr
    assert "Not looked into" not in shop.erase(ours, "plan", *WHO).stderr

    ours.query("create table main.copied as select * from main.fct_orders")
    lakebed(ours, "export", "main.copied", "exports/copied")
    said = shop.erase(ours, "plan", *WHO).stderr
    assert "exports/copied is an export of main.copied, which no model is" in said

    state = of_table(ours, "main.fct_orders")

    def refused() -> str:
        done = shop.erase(ours, "run", *WHO, "--export", str(moved), check=False)
        assert done.returncode == 1
        assert of_table(ours, "main.fct_orders") == state
        return done.stderr

    manifest = json.loads((moved / "manifest.json").read_text())
    for change, message in (
        ({"engine": "spark"}, "is an export of spark: erase it with a target of that"),
        ({"columns": manifest["columns"][2:]}, "has no column customer, which says whose"),
    ):
        (moved / "manifest.json").write_text(json.dumps({**manifest, **change}))
        assert message in refused()
    (moved / "manifest.json").write_text(json.dumps(manifest))
    next((moved / "data").iterdir()).write_bytes(b"x")
    assert "is not the file that was exported" in refused()
    with pytest.raises(UserError):
        snapshots.verify(moved)
