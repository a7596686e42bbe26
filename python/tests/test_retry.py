"""The retry policy: what each class of failure leads to, and that each connector keeps to it.

Transient: nothing was done. Permanent: the same try would fail again. Ambiguous: the connection is
lost in the middle of a commit, so nobody knows; both ways it may have gone are made to happen. The
transient failures of each connector's own source are in test_stream_faults (broker), test_pull
(API) and test_webhook (busy lake).
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest
from api import Api
from api import serving as serving_api
from broker import Broker
from hypothesis import given, settings
from hypothesis import strategies as st
from lakebed.errors import LakeLocked, UserError
from lakebed.ingest.patience import (
    AMBIGUOUS,
    PERMANENT,
    TRANSIENT,
    Patience,
    TryLater,
    classify,
)
from lakebed.ingest.records import Entity, Record
from lakebed.ingest.sink import Fenced, Sink
from lakebed.keep import FOLDER
from lakehouse import TeamLakehouse
from pgproxy import Proxy, proxy
from pulls import Pull, order
from streams import Stream, everything, send
from test_breaker import lake_of
from test_maintain_beside import TeamProject
from webhooks import post
from webhooks import serving as serving_webhook

PROVES = ["pat-retryable"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (duckdb.IOException('Could not set lock on file "x"'), TRANSIENT),
        (duckdb.TransactionException("Transaction conflict - attempting to ..."), TRANSIENT),
        (duckdb.TransactionException("Exceeded the maximum retry count of 10"), TRANSIENT),
        (duckdb.IOException("Unable to connect to Postgres at ..."), TRANSIENT),
        (duckdb.Error("deadlock detected"), TRANSIENT),
        (LakeLocked("in use"), TRANSIENT),
        (TryLater("503"), TRANSIENT),
        (duckdb.Error("server closed the connection unexpectedly"), AMBIGUOUS),
        (duckdb.Error('Failed to execute query "ROLLBACK": '), AMBIGUOUS),
        (duckdb.TransactionException("Current transaction is aborted"), AMBIGUOUS),
        (duckdb.Error("terminating connection due to administrator command"), AMBIGUOUS),
        (
            duckdb.InternalException("access index 0 within vector of size 0"),
            AMBIGUOUS,
        ),
        (duckdb.CatalogException("Table x does not exist"), PERMANENT),
        (duckdb.ParserException("syntax error"), PERMANENT),
        (UserError("check `auth`"), PERMANENT),
        (ValueError("server closed the connection"), PERMANENT),
    ],
)
def test_classes(error: Exception, kind: str) -> None:
    assert classify(error) == kind


class Clock:
    """Time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits: list[float] = []

    def pause(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@settings(deadline=None)
@given(
    failures=st.lists(st.none() | st.floats(0, 100), max_size=30),
    budget=st.none() | st.floats(0, 200),
)
def test_waits_grow_to_a_bound_and_stay_in_the_budget(
    failures: list[float | None], budget: float | None
) -> None:
    clock, left = Clock(), list(failures)
    patience = Patience(budget, clock.pause, first=0.5, most=30)

    def action() -> str:
        if left:
            raise TryLater("no", left.pop(0))
        return "done"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: clock.now)
        try:
            result = patience.persist(action)
        except TryLater:
            result = "given up"
    assert result == "done" or budget is not None
    for number, wait in enumerate(clock.waits):
        asked = failures[number] or 0
        delay = min(0.5 * 2**number, 30)
        assert max(asked, delay / 2) <= wait <= max(asked, delay)
    if budget is not None and clock.waits:
        # Only a wait of its own, never one that was asked for, goes over the end.
        assert clock.now <= budget + 30
        assert clock.now - clock.waits[-1] < budget


def test_permanent_failures_are_tried_once() -> None:
    tries = []

    def action() -> None:
        tries.append(1)
        raise duckdb.ParserException("syntax error")

    with pytest.raises(duckdb.ParserException):
        Patience().persist(action)
    assert len(tries) == 1


def test_a_stop_ends_the_wait() -> None:
    stop, started = threading.Event(), time.monotonic()
    stop.set()

    def action() -> None:
        raise TryLater("no", 60)

    with pytest.raises(TryLater):
        Patience(None, stop.wait, stop=stop, last_chance=0).persist(action)
    assert time.monotonic() - started < 1


@pytest.fixture
def lossy(team: TeamLakehouse, tmp_path: Path) -> Iterator[tuple[TeamLakehouse, Proxy]]:
    """A lakehouse whose way to PostgreSQL is lost now and then; asked directly by the test."""
    with proxy(tmp_path / "p", tmp_path / "pg") as before:
        through = TeamLakehouse(team.home, dict(team.env))
        through.env["LAKEBED_POSTGRES"] = f"dbname=postgres user=postgres host={before.folder}"
        yield through, before


def both_ways(before: Proxy) -> None:
    """Commits were lost both before and after they were done: else nothing was tested."""
    assert min(before.cut.values()) >= 2, before.cut


@pytest.mark.team
@pytest.mark.parametrize("repeatable", [True, False])
@pytest.mark.parametrize("size", [10, 25])
def test_the_sink_looks_before_it_tries_again(
    team: TeamLakehouse, lossy: tuple[TeamLakehouse, Proxy], repeatable: bool, size: int
) -> None:
    """Batches of 25 rows are files, which DuckLake deletes when it does not hear of its commit."""
    through, before = lossy
    entity = Entity("web__clicks")
    with Sink(lake_of(through), "web", [entity], Patience(30), repeatable=repeatable) as sink:
        sink.positions()
        before.left, before.chance = 8, 0.4
        at = 0
        while at < 20 * size:
            expected = sink.positions().get(("t", 0))
            at = expected or 0
            rows = [Record("t", 0, at + n, None, b"{}", [], None) for n in range(size)]
            # Not repeatable: the try that went through is seen as another's, and asked about.
            with nullcontext() if repeatable else suppress(Fenced):
                sink.write({entity: rows}, [], {("t", 0): (expected, at + size)})
    both_ways(before)
    found = team.query("select _offset from bronze.web__clicks order by 1")
    assert [offset for (offset,) in found] == list(range(len(found)))
    assert len(found) >= 20 * size
    assert not list((team.home / "lake").rglob(f"{FOLDER}/*"))


@pytest.mark.team
def test_a_read_that_gets_no_answer(lossy: tuple[TeamLakehouse, Proxy]) -> None:
    """Its error is one of DuckDB's own, after which DuckDB does nothing any more."""
    through, before = lossy
    with Sink(lake_of(through), "web", [], Patience(30)) as sink:
        sink.write({}, [], {("t", 0): (None, 7)})
        before.reads = 3
        assert sink.positions() == {("t", 0): 7}
        assert before.reads == 0
        assert sink.patience.failures == 3


@pytest.mark.team
def test_the_catalogue_goes_away_anywhere(team: TeamLakehouse) -> None:
    """Between any two of its statements, not only at a commit; of some DuckLake says only what it
    could not do because of it."""
    dice, stop, cuts = random.Random(4), threading.Event(), 0
    entity = Entity("web__clicks")
    everyone = "pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"

    def cut() -> None:
        nonlocal cuts
        with psycopg.connect(team.env["LAKEBED_POSTGRES"], autocommit=True) as server:
            while not stop.wait(dice.uniform(0.02, 0.3)):
                cuts += len(
                    server.execute(f"select pg_terminate_backend(pid) from {everyone}").fetchall()
                )

    with Sink(lake_of(team), "web", [entity], Patience(60)) as sink:
        sink.positions()
        cutting = threading.Thread(target=cut)
        cutting.start()
        try:
            at, ends = 0, time.monotonic() + 12
            while time.monotonic() < ends or not at:
                size = random.choice([1, 300])
                rows = [Record("t", 0, at + n, None, b"{}", [], None) for n in range(size)]
                sink.write({entity: rows}, [], {("t", 0): (at or None, at + size)})
                at += size
                sink.patience.persist(sink.states)
        finally:
            stop.set()
            cutting.join()
    assert cuts > 30
    assert team.query("select count(*), count(distinct _offset) from bronze.web__clicks") == [
        (at, at)
    ]


@pytest.mark.team
def test_a_stream_whose_commits_are_lost(
    broker: Broker, team: TeamLakehouse, lossy: tuple[TeamLakehouse, Proxy]
) -> None:
    through, before = lossy
    clicks = broker.topic("clicks", 2)
    stream = Stream(through, broker, {clicks: "web__clicks"}, settings={"batch": {"rows": 10}})
    stream.run()
    before.left, before.chance = 8, 0.3
    send(broker, clicks, [(str(number), b"{}") for number in range(300)])
    stream.run()
    both_ways(before)
    assert Stream(team, broker, stream.topics).sent() == everything(broker, clicks)


@pytest.mark.team
def test_a_pull_whose_commits_are_lost(
    team: TeamLakehouse, lossy: tuple[TeamLakehouse, Proxy]
) -> None:
    through, before = lossy
    with serving_api(Api([order(number) for number in range(200)])) as api:
        before.left, before.chance = 8, 0.2
        Pull(through, api, "cursor").run()
    both_ways(before)
    assert Pull(team, api, "cursor").ids() == list(range(200))


@pytest.mark.team
def test_a_webhook_whose_commits_are_lost(
    team: TeamLakehouse, lossy: tuple[TeamLakehouse, Proxy]
) -> None:
    through, before = lossy
    settings: dict[str, Any] = {"patience": 20}
    with serving_webhook(through, **settings) as (_, client):
        assert post(client, "first", '{"id": 1}').status_code == 200
        before.left, before.chance = 8, 0.3
        for number in range(40):
            while post(client, f"w{number}", json.dumps({"id": 1})).status_code != 200:
                time.sleep(0.1)
    both_ways(before)
    rows = team.query("select _key, _offset from bronze.shop__orders order by _offset")
    assert rows == [("first", 0), *((f"w{n}", n + 1) for n in range(40))]


@pytest.mark.team
def test_builds_whose_commits_are_lost(
    team: TeamLakehouse, lossy: tuple[TeamLakehouse, Proxy], tmp_path: Path
) -> None:
    """Whatever a build was told, what the catalogue has can be read, deleted rows left out."""
    through, before = lossy
    files = {
        f"models/rows_{number}.sql": (
            "{{ config(materialized='incremental', incremental_strategy='delete+insert',"
            " unique_key='id') }} select i as id, i % 7 as part, cast({{ var('round') }} as int)"
            " as round from range({{ var('round') }} * 100, {{ var('round') }} * 100 + 150) as t(i)"
        )
        for number in range(6)
    }
    TeamProject.postgres = through.env["LAKEBED_POSTGRES"]
    project = TeamProject(tmp_path / "project", files)
    project.run("run", "--vars", "round: 0")
    before.left, before.chance = 10, 0.3
    failed = 0
    for count in range(1, 5):
        run = project.run("run", "--vars", f"round: {count}", check=False)
        failed += "error" in run.statuses.values()
        for number in range(6):
            rows = team.query(f"select id, round from main.rows_{number}")
            assert len({key for key, _ in rows}) == len(rows)
    assert failed >= 2
    both_ways(before)
    before.left = 0
    project.run("run", "--vars", "round: 5")
    expected = {(key, 5) for key in range(500, 650)}
    for number in range(6):
        assert set(team.query(f"select id, round from main.rows_{number} where id >= 500")) == (
            expected
        )
