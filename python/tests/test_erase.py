"""Erasure: nothing is left, nothing else changes, nothing comes back, and it may be killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path

import duckdb
import pytest
import shop
from harness import DbtProject
from lakebed.erase import ducklake, policy
from lakebed.erase.scan import Trace, scan
from lakebed.project import Lake

PROVES = ["pat-gdpr-erase"]

LATER = "2024-03-02 00:00:00"
#: Tables, and the columns that name a customer there.
TABLES = {
    "main_bronze.bronze_shop__customers": "_record",
    "main_bronze.bronze_shop__orders": "_record",
    "main_silver.silver_shop__customers": "customer",
    "main_silver.silver_shop__orders": "customer",
    "main_quarantine.quarantine_shop__customers": "_record",
    "main_quarantine.quarantine_shop__orders": "_record",
    "main_snapshots.snap_customers": "customer",
    "main.dim_customers": "customer",
    "main.fct_orders": "customer",
}
WHO = ("customer", shop.ADA)
VALUES = ("--value", shop.IDENTIFYING[1], "--value", shop.IDENTIFYING[2])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    """A shop before any erasure; it is copied, never changed."""
    project = shop.project(tmp_path_factory.mktemp("shop") / "shop")
    shop.fill(project)
    return project


@pytest.fixture
def ours(filled: DbtProject) -> Iterator[DbtProject]:
    with shop.restored(filled):
        yield filled


def rows(project: DbtProject, where: str = "true") -> dict[str, list[str]]:
    """All rows of all tables as text; `where` may use {column}, which names the customer."""
    with project.connect() as connection:
        found = {}
        for table, column in TABLES.items():
            # The hash of a rewritten file is another one; when a build ran is no row of a table.
            hidden = "columns(c -> c not in ('_file_id', '_batch_id', 'ingested_at')"
            hidden += " and c not like 'dbt_%')"
            answer = connection.execute(
                f"select {hidden} from {table} where {where.format(column=column)}"
            )
            found[table] = sorted(map(repr, answer.fetchall()))
        return found


def traces(project: DbtProject) -> list[Trace]:
    """Every trace of Ada below the project's folder: lake, landing, logs and artifacts."""
    looked, found = scan(
        [project.folder / name for name in ("lake", "landing", "target", "logs")], shop.IDENTIFYING
    )
    assert looked > 20
    return found


def totals(project: DbtProject) -> list[tuple[object, ...]]:
    return project.query(
        "select order_date, orders, amount from main.agg_orders union all"
        " select null, count(*), sum(amount) from main.fct_orders order by all"
    )


def test_a_table_of_a_model_is_no_stored_failure() -> None:
    """Also where a test of its name would be stored in its schema."""

    def node(kind: str, name: str, **more: str) -> dict[str, str]:
        return {"resource_type": kind, "name": name, "schema": "main", "database": "lake", **more}

    manifest = {
        "nodes": {
            "a": node("test", "orders", alias="orders"),
            "b": node("test", "late_orders_of_the_year", alias="late_orders"),
            "c": node("model", "orders_v2", alias="Orders"),
        },
        "sources": {"d": node("source", "s", identifier="clicks")},
    }
    assert policy.tests(manifest) == [
        {
            "database": "lake",
            "schema": "main",
            "identifiers": ["late_orders", "orders"],
            "others": ["clicks", "orders"],
        }
    ]


OTHERS = f"not contains({{column}}, '{shop.ADA}') and not contains({{column}}, 'erased')"


def test_nothing_is_left_and_nothing_else_changes(ours: DbtProject) -> None:
    before, sums = rows(ours, OTHERS), totals(ours)
    # Files of every kind: else this test could not fail.
    found = {Path(trace.path).suffix + " " + trace.how for trace in traces(ours)}
    assert {".ducklake bytes", ".ducklake inside DuckDB", ".parquet inside Parquet"} <= found
    assert {".csv bytes", ".gz inside gzip"} <= found

    done = shop.erase(ours, "run", *WHO).stdout
    assert "31  anonymise main.fct_orders" in done
    assert "10   main_dbt_test__audit.late_orders" in done
    assert traces(ours) == []
    assert rows(ours, OTHERS) == before
    after = rows(ours)
    assert totals(ours) == sums
    assert ours.query("select count(*) from main.fct_orders where customer = 'erased'") == [(31,)]
    assert "Nothing is left" in shop.erase(ours, "verify", *WHO, *VALUES).stdout

    # The receipt: whose and what, and no personal data.
    receipts = ours.query(
        "select state, row_count, file_count, length(subject_hash) from ops.erasures order by state"
    )
    assert receipts == [("complete", 111, 5, None), ("started", 111, 5, 64)]

    # Without the key of the erasure nothing is read in: she would come back unseen.
    shop.land(
        ours,
        "orders",
        "4.csv",
        shop.ORDERS
        + f"960,{shop.ADA},{shop.IDENTIFYING[1]},,5.00,2024-01-05\n"
        + "961,cust-00002,c2@example.org,,5.00,2024-01-05\n"
        + f"962;{shop.ADA};x\n",
    )
    shop.land(
        ours,
        "customers",
        "9 again.csv",
        shop.CUSTOMERS + f"{shop.ADA},{shop.IDENTIFYING[1]},x,y\n\n",
    )
    blind = ours.run("build", check=False)
    assert blind.code == 1
    assert "LAKEBED_ERASURE_KEY is not the key" in blind.log
    secret = {"LAKEBED_ERASURE_KEY": shop.KEY}
    ours.run("build", env=secret)
    assert ours.query(
        "select customer, count(*) from main.fct_orders where order_id between 960 and 962"
        " group by all order by all"
    ) == [("cust-00002", 1), ("erased", 1)]
    assert not [trace for trace in traces(ours) if "/lake/" in trace.path]

    # The files still name her: the same request again is about them.
    again = shop.erase(ours, "run", *WHO).stdout
    assert "2  lines of shop/orders/4.csv" in again
    assert traces(ours) == []

    # All of it from the landing files again gives what is there.
    now = rows(ours)
    assert all(set(after[name]) <= set(now[name]) for name in TABLES if "snap" not in name)
    ours.run("build", "--full-refresh", env=secret)
    rebuilt = rows(ours)
    for name in TABLES:
        assert rebuilt[name] == now[name], name


def test_a_file_that_is_hers_alone(ours: DbtProject) -> None:
    """It goes as a whole, so nothing is written again that would tell the catalogue's bounds."""
    hers = f"{shop.ADA},{shop.IDENTIFYING[1]},A,Turin\n"
    shop.land(ours, "customers", "3.csv", shop.CUSTOMERS.splitlines(True)[0] + hers * 50)
    ours.run("build")
    shop.erase(ours, "run", *WHO)
    assert traces(ours) == []
    lines = "select min(_record), max(_record), count(*) from main_bronze.bronze_shop__customers"
    held = ours.query(lines)
    assert held == ours.query(lines.replace(" from", " from (from") + ") where _record <> ''")
    shop.land(ours, "customers", "4.csv", shop.CUSTOMERS.splitlines(True)[0] + "zzz,z@z,Z,Oslo\n")
    ours.run("build", env={"LAKEBED_ERASURE_KEY": shop.KEY})
    ((first, last, count),) = ours.query(lines)
    assert (first, last, count) == (held[0][0], "zzz,z@z,Z,Oslo", held[0][2] + 1)


def test_nothing_is_left_of_any_kind_of_column(tmp_path: Path) -> None:
    """Nested and shredded ones have bounds of their own, partitions are named by values."""
    lake = Lake(
        "local", f"ducklake:{tmp_path}/catalog.ducklake", "lakebed", {"data_path": f"{tmp_path}/f/"}
    )
    kinds = (
        "{who} as customer, json_object('who', {who}) as document, [{who}] as texts,"
        " {{'who': {who}}} as pair, {who}::variant as anything, encode({who}) as raw"
    )
    someone = kinds.format(who="'cust-' || i % 5")
    with duckdb.connect() as connection:
        lake.prepare(connection)
        lake.attach(connection)
        connection.execute(
            f"use lakebed; create table things as select {someone} from range(0) r(i)"
        )
        connection.execute("alter table things set partitioned by (customer)")
        connection.execute(f"insert into things select {someone} from range(100) as r(i)")
        for count in (50, 1):  # in a file, and in the catalogue
            hers = kinds.format(who=f"'{shop.ADA}'")
            connection.execute(f"insert into things select {hers} from range({count})")
        connection.execute(f"delete from things where customer = '{shop.ADA}'")
        others = connection.execute("select * from things order by all").fetchall()
    assert scan([tmp_path], [shop.ADA])[1]
    ducklake.purge(lake, datetime.now(timezone.utc))
    assert scan([tmp_path], [shop.ADA])[1] == []
    with lake.connect() as connection:
        assert connection.execute("select * from things order by all").fetchall() == others


def test_refusals(ours: DbtProject) -> None:
    def refused(*arguments: str, key: str | None = shop.KEY) -> str:
        done = shop.erase(ours, *arguments, key=key, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    before = rows(ours)
    assert "31  anonymise main.fct_orders" in shop.erase(ours, "plan", *WHO).stdout
    assert "1 rows in main.dim_customers" in refused("verify", *WHO)
    assert "LAKEBED_ERASURE_KEY is not set" in refused("run", *WHO, key=None)
    assert "too short" in refused("run", *WHO, key="abc")
    assert "no table and no landing file has such a customer" in refused(
        "run", "customer", "cust-nobody"
    )
    assert "No column is tagged `meta: {subject: patient}`; there is customer" in refused(
        "run", "patient", "1"
    )
    with ours.connect():
        assert "in use by" in refused("run", *WHO)
    (ours.folder / "landing/shop/orders/bad.csv").write_bytes(b"\x00\x01" + shop.ADA.encode())
    assert "bad.csv cannot be read as lines" in refused("run", *WHO)
    file = ours.folder / "models/shop.yml"
    file.write_text(file.read_text().replace("meta: {erase: {customer: none}}", "meta: {}"))
    assert "agg_orders: is made from fct_orders, which carries the subject" in refused("run", *WHO)
    assert rows(ours) == before


def kill_and_resume(project: DbtProject, kills: int, seed: int) -> None:
    """Kill `lakebed erase run` at random moments; then let it end."""
    rng = random.Random(seed)
    sums, before = totals(project), rows(project, OTHERS)
    length = 10.0
    killed = 0
    while killed < kills:
        run = shop.start_erasure(project, "run", *WHO)
        start = time.monotonic()
        try:
            run.wait(rng.uniform(2.0, length))
            length = time.monotonic() - start
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
        killed += 1
        # Readers see all of it or nothing, and no total moves.
        found = project.query(
            "select (select count(*) from main.fct_orders where customer = 'erased') in (0, 31),"
            " (select count(*) from main.fct_orders where customer = 'erased') = 0"
            f" or (select count(*) from main.dim_customers where customer = '{shop.ADA}') = 0"
        )
        assert found == [(True, True)]
        assert totals(project) == sums
    shop.erase(project, "run", *WHO)
    assert traces(project) == []
    assert totals(project) == sums
    assert rows(project, OTHERS) == before
    # No file was taken for a new one.
    project.run("build", env={"LAKEBED_ERASURE_KEY": shop.KEY})
    assert totals(project) == sums
    assert rows(project, OTHERS) == before


def test_killed_anywhere_it_ends_the_same(ours: DbtProject) -> None:
    kill_and_resume(ours, kills=2, seed=1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(2, 12))
def test_killed_anywhere_it_ends_the_same_soak(ours: DbtProject, seed: int) -> None:
    kill_and_resume(ours, kills=5, seed=seed)
