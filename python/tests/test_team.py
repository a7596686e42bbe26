"""The target `team`: the catalogue in a real PostgreSQL, several processes at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from lakehouse import REPO, Lakehouse, TeamLakehouse

PROVES = ["pat-idempotent", "pat-exactly-once"]
pytestmark = pytest.mark.team
AS_OF = "2018-02-01 00:00:00"

#: A table of each kind on the way to sales: what else there is would be more of the same.
RUN = ("run", "--select", "quarantine_retail__transactions +fct_sales_lines")

#: Appends 20 batches to a table of its own while dbt builds; prints what it committed.
WRITER = """
import os, time, duckdb
from lakebed.lake import load_extensions
lake = duckdb.connect()
load_extensions(lake)
path, files = os.environ["LAKEBED_POSTGRES"], os.environ["LAKEBED_HOME"] + "/files/"
lake.execute(f"attach 'ducklake:postgres:{path}' as lakebed (data_path '{files}')")
lake.execute("create schema if not exists lakebed.bronze")
lake.execute("create table if not exists lakebed.bronze.clicks (batch int, click int)")
for batch in range(20):
    lake.execute("insert into lakebed.bronze.clicks select ?, range from range(25)", [batch])
    time.sleep(0.2)
print("done")
"""


def test_two_builds_and_a_writer_at_once(team: TeamLakehouse, tmp_path: Path) -> None:
    """All rows once, whichever build wins; the one that loses says so and changes nothing."""
    team.land("--until", "2017-01-02", "--promotion-weeks", "1", "--faults", "3")
    team.dbt(*RUN, as_of=AS_OF)
    team.land("--until", "2017-01-04", "--promotion-weeks", "1", "--faults", "3")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER],
            env=team.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    ]
    for number in range(2):
        environment = {
            **team.environment(),
            "DBT_TARGET_PATH": str(tmp_path / f"target{number}"),
            "DBT_LOG_PATH": str(tmp_path / f"logs{number}"),
        }
        running.append(
            subprocess.Popen(
                ["dbt", *RUN, "--vars", json.dumps({"as_of": AS_OF})],
                cwd=REPO,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    outputs = [process.communicate()[0] for process in running]
    assert running[0].returncode == 0, outputs[0]
    for process, output in zip(running[1:], outputs[1:], strict=True):
        # Either it went through, or it lost the race for a batch and says so.
        assert process.returncode == 0 or "onflict" in output, output[-4000:]
    team.dbt(*RUN, as_of=AS_OF)

    assert team.query("select count(*), count(distinct (batch, click)) from bronze.clicks") == [
        (500, 500)
    ]
    single = Lakehouse(tmp_path / "single")
    single.env = {"LAKEBED_LANDING": str(team.landing)}
    single.dbt(*RUN, as_of=AS_OF)
    journey = ("path", "batch_id", "_batch_id", "_version", "dbt_scd_id", "dbt_valid_from")
    expected = single.hashes(exclude=journey)
    found = team.hashes(exclude=journey)
    found.pop("bronze.clicks")
    snapshot = "snapshots.retail__households"
    assert {key: value for key, value in found.items() if key != snapshot} == {
        key: value for key, value in expected.items() if key != snapshot
    }
