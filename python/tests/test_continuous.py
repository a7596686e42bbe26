"""`--build`: what reads a stream is built while it runs, whatever dies."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from broker import Broker
from business import Business
from harness import DbtProject
from postgres import Postgres, need_capture
from streams import LAKEBED, QUICK, send

pytestmark = pytest.mark.timeout(600)
PROVES = ["pat-batch-microbatch-continuum"]

MODELS = {
    "models/_web.yml": """
sources:
  - name: web
    schema: bronze
    tables:
      - {name: web__clicks, config: {meta: {stream: true}}}
""",
    "models/clicks_by_user.sql": "{{ config(materialized='table') }}\n"
    "select {{ lakebed.json_text('_record', 'user') }} as user_name, count(*) as clicks"
    " from {{ source('web', 'web__clicks') }} group by 1",
    "models/beside.sql": "select 1 as one",
}


class Clicks:
    """A project that counts clicks, fed by `lakebed stream --build`."""

    def __init__(self, home: Path, broker: Broker) -> None:
        hooks = ["{{ lakebed.create_positions() }}", "{{ lakebed.create_stream_tables() }}"]
        self.project = DbtProject(home / "project", MODELS, config={"on-run-start": hooks})
        self.broker, self.topic = broker, broker.topic("clicks")
        self.file = home / "web.yml"
        content = {
            "name": "web",
            "kafka": {"bootstrap.servers": broker.servers, **QUICK},
            "topics": {self.topic: "web__clicks"},
            "batch": {"age": 0.1},
        }
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")

    def start(self, *options: str) -> subprocess.Popen[str]:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LAKEBED", "DBT"))}
        return subprocess.Popen(
            [*LAKEBED, "stream", str(self.file), "--build-every", "0.2", *options],
            env=inherited | {"DBT_PROJECT_DIR": str(self.project.folder)},
            cwd=self.file.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def send(self, user: str, count: int) -> None:
        send(self.broker, self.topic, [(user, json.dumps({"user": user}))] * count)

    def counted(self) -> dict[str, int]:
        try:
            return dict(self.project.query("select user_name, clicks from clicks_by_user"))
        except duckdb.Error:  # not built yet, or somebody has the lake open
            return {}

    def wait_for(self, wanted: dict[str, int], seconds: float = 120) -> None:
        until = time.monotonic() + seconds
        while self.counted() != wanted:
            assert time.monotonic() < until, (self.counted(), wanted)
            time.sleep(1)  # a look locks the lake: builds must find it free now and then


@pytest.fixture
def clicks(tmp_path: Path, broker: Broker) -> Clicks:
    return Clicks(tmp_path, broker)


def ended(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=60)[0]
    finally:
        process.kill()


def test_models_follow_the_records(clicks: Clicks) -> None:
    clicks.send("ada", 3)
    process = clicks.start("--build", "run")
    clicks.wait_for({"ada": 3})
    clicks.send("bob", 1)
    clicks.wait_for({"ada": 3, "bob": 1})
    clicks.send("ada", 1000)
    process.send_signal(signal.SIGTERM)  # what was read is written, and built
    output = ended(process)
    assert process.returncode == 0, output
    assert "Traceback" not in output
    assert sum(clicks.counted().values()) == int(
        clicks.project.query("select count(*) from bronze.web__clicks")[0][0]
    )
    assert "rows, 0 to the DLQ" in ended(once := clicks.start("--once", "--build", "build"))
    assert once.returncode == 0
    assert clicks.counted() == {"ada": 1003, "bob": 1}
    # Only what reads the stream is built.
    with pytest.raises(duckdb.Error, match="beside"):
        clicks.project.query("select * from beside")


def test_only_what_reads_new_rows_is_built(clicks: Clicks) -> None:
    """A second table of the same stream, whose reader says which build made it."""
    other = clicks.broker.topic("views")
    settings = yaml.safe_load(clicks.file.read_text("utf-8"))
    settings["topics"][other] = "web__views"
    clicks.file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    models = clicks.project.folder / "models"
    sources = models / "_web.yml"
    clicked = "      - {name: web__clicks, config: {meta: {stream: true}}}\n"
    sources.write_text(
        sources.read_text("utf-8") + clicked.replace("clicks", "views"), encoding="utf-8"
    )
    (models / "views.sql").write_text(
        "{{ config(materialized='table') }} select '{{ invocation_id }}' as build,"
        " count(*) as views from {{ source('web', 'web__views') }}",
        encoding="utf-8",
    )

    def views() -> tuple[str, int]:
        return clicks.project.query("select build, views from views")[0]  # type: ignore[return-value]

    clicks.send("ada", 1)
    send(clicks.broker, other, [("ada", "{}")])
    process = clicks.start("--build", "run")
    try:
        clicks.wait_for({"ada": 1})
        before, count = views()
        assert count == 1
        clicks.send("ada", 1)
        clicks.wait_for({"ada": 2})
        assert views() == (before, 1)
        send(clicks.broker, other, [("ada", "{}")])
        clicks.send("bob", 1)
        clicks.wait_for({"ada": 2, "bob": 1})
        process.send_signal(signal.SIGTERM)
        output = ended(process)
    finally:
        process.kill()
    assert process.returncode == 0, output
    after, count = views()
    assert count == 2
    assert after != before
    # What a build is for, and what it is not: checks are of `build`.
    checks = "select count(*) from information_schema.tables where table_name = 'table_checks'"
    assert clicks.project.query(checks) == [(0,)]


def test_a_dbt_that_is_killed_is_replaced(clicks: Clicks) -> None:
    clicks.send("ada", 3)
    process = clicks.start("--build", "run")
    try:
        clicks.wait_for({"ada": 3})
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text("utf-8")
        for child in children.split():
            if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes():
                os.kill(int(child), signal.SIGKILL)
        clicks.send("bob", 1)
        clicks.wait_for({"ada": 3, "bob": 1})
        process.send_signal(signal.SIGTERM)
        output = ended(process)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert "The build failed: dbt's process has died" in output


def test_a_model_that_fails_stops_no_record(clicks: Clicks) -> None:
    model = clicks.project.folder / "models" / "clicks_by_user.sql"
    good = model.read_text("utf-8")
    model.write_text("{{ config(materialized='table') }} select nothing from nowhere -- "
                     "{{ source('web', 'web__clicks') }}", encoding="utf-8")  # fmt: skip
    clicks.send("ada", 5)
    output = ended(process := clicks.start("--once", "--build", "run"))
    assert process.returncode == 1
    assert "The build failed: " in output
    assert "nowhere" in output
    assert "Traceback" not in output
    assert clicks.project.query("select count(*) from bronze.web__clicks") == [(5,)]
    model.write_text(good, encoding="utf-8")
    # Nothing new comes, but what was not built is.
    assert ended(process := clicks.start("--once", "--build", "run"))
    assert process.returncode == 0
    assert clicks.counted() == {"ada": 5}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--build", "test"), "--build is 'run' (models) or 'build'"),
        (("--build", "run", "--select", "nobody"), "--select nobody selects no model"),
    ],
)
def test_mistakes_are_one_line(clicks: Clicks, options: tuple[str, ...], message: str) -> None:
    output = ended(process := clicks.start("--once", *options))
    assert process.returncode == 1
    assert message in output
    assert "Traceback" not in output


def test_a_stream_that_nothing_reads_is_said(clicks: Clicks) -> None:
    for name in ("_web.yml", "clicks_by_user.sql"):
        (clicks.project.folder / "models" / name).unlink()
    output = ended(process := clicks.start("--once", "--build", "run"))
    assert process.returncode == 1
    assert "No source of dbt is bronze.web__clicks" in output


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Postgres]:
    need_capture()
    postgres = Postgres(tmp_path / "pg")
    postgres.start()
    yield postgres
    postgres.stop()


def test_gold_follows_the_database_whatever_is_killed(tmp_path: Path, source: Postgres) -> None:
    """Capture and its dbt are killed while the application lives, and lose the catalogue, to which
    dbt stays connected between builds."""
    dice = random.Random(9)
    business = Business(tmp_path, source, team=True)
    assert business.live("2023-12-31").wait() == 0
    business.capture()  # the outbox is swept: what was in it before is not known
    for day in (10, 20, 30):
        capture = business.capturing()
        assert business.live(f"2024-01-{day}").wait() == 0
        time.sleep(dice.uniform(8, 20))
        source.query(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = 'lake'"
        )
        time.sleep(dice.uniform(0, 5))
        ran = capture.poll()
        capture.kill()
        said = capture.communicate()[0]
        assert ran is None, said
    output = ended(process := business.capturing("--once"))
    assert process.returncode == 0, output

    def same(lake: str, database: str) -> None:
        truth: list[Any] = source.query(database)
        assert truth
        assert business.lakehouse.query(lake) == truth

    same("select count(*), sum(amount) from gold.fct_payments",
         "select count(*), sum(amount) from app.payments")  # fmt: skip
    same("select max_by(closing_mrr, calendar_date) from gold.agg_daily_mrr",
         "select sum(monthly_amount) from app.subscriptions where status = 'active'")  # fmt: skip
    same("select sum(active_subscriptions) from gold.rm_customer_summary",
         "select count(*) from app.subscriptions where status = 'active'")  # fmt: skip
    same("select count(*), count(distinct id) from silver.saas__events",
         "select count(*), count(*) from ledger.changes where entity = 'outbox'")  # fmt: skip
