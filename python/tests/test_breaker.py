"""Circuit breakers whose state is in the lake: shared by processes, probed by one of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from api import Api, serving
from lakebed.errors import UserError
from lakebed.ingest.breaker import Breaker, Fuse, circuits
from lakebed.ingest.patience import Patience, TryLater
from lakebed.ingest.sink import Sink
from lakebed.ingest.tables import utc_now
from lakebed.project import Lake
from lakehouse import Lakehouse, TeamLakehouse
from pulls import Pull, order

PROVES = ["pat-circuit-breaker"]


def lake_of(lakehouse: Lakehouse) -> Lake:
    files = {"data_path": f"{lakehouse.home}/lake/files/"}
    if postgres := lakehouse.env.get("LAKEBED_POSTGRES"):
        return Lake("team", f"ducklake:postgres:{postgres}", "lakebed", files)
    return Lake("local", f"ducklake:{lakehouse.home}/lake/catalog.ducklake", "lakebed", files)


class Service:
    """Something that is called, and fails as long as it is told to."""

    def __init__(self) -> None:
        self.up, self.calls = False, 0

    def __call__(self) -> str:
        self.calls += 1
        if not self.up:
            raise TryLater("it is down")
        return "done"


class Clock:
    """By which rests are counted; it stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = utc_now()

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("lakebed.ingest.breaker.utc_now", clock)
    return clock


def make(lakehouse: Lakehouse, count: int, fuse: Fuse) -> list[Breaker]:
    lake = lake_of(lakehouse)
    with Sink(lake, "any", [], Patience(20)) as sink:
        sink.positions()  # there is a lake
    return [Breaker(Sink(lake, "any", [], Patience(20)), "service", fuse) for _ in range(count)]


def refused(breaker: Breaker, action: Callable[[], object]) -> TryLater:
    with pytest.raises(TryLater) as error:
        breaker.call(action)
    return error.value


@pytest.mark.parametrize("where", ["local", pytest.param("team", marks=pytest.mark.team)])
def test_one_state_for_all(
    request: pytest.FixtureRequest, tmp_path: Path, where: str, clock: Clock
) -> None:
    lakehouse = Lakehouse(tmp_path) if where == "local" else request.getfixturevalue("team")
    service, lake = Service(), lake_of(lakehouse)
    one, two = make(lakehouse, 2, Fuse(3, 30))
    assert circuits(lake) == []
    # Failures of both count together, and a success in between forgets them.
    refused(one, service)
    service.up = True
    assert one.call(service) == "done"
    service.up = False
    refused(one, service)
    time.sleep(1)  # a closed circuit is looked at each second
    refused(two, service)
    refused(one, service)
    calls = service.calls
    (circuit,) = circuits(lake)
    assert (circuit.state, circuit.failures, circuit.reason) == ("open", 3, "it is down")
    for breaker in (one, two):
        error = refused(breaker, service)
        assert "left alone" in str(error)
        assert error.after == 30
    assert service.calls == calls
    # After the rest a probe; it fails: another rest, for both.
    clock.wait(30)
    assert str(refused(two, service)) == "it is down"
    assert "left alone" in str(refused(one, service))
    assert service.calls == calls + 1
    clock.wait(30)
    service.up = True
    assert two.call(service) == "done"
    assert one.call(service) == "done"
    assert circuits(lake)[0].state == "closed"


@pytest.mark.team
def test_one_probe_only(team: TeamLakehouse, clock: Clock) -> None:
    """Eight come at once when the rest is over: one calls."""
    service = Service()
    breakers = make(team, 8, Fuse(1, 30))
    service.up = True
    for breaker in breakers:
        breaker.call(service)  # all are connected
    service.up, service.calls = False, 0
    time.sleep(1)
    refused(breakers[0], service)
    for breaker in breakers[1:]:
        assert "left alone" in str(refused(breaker, service))
    clock.wait(30)
    started = threading.Barrier(8)

    def probe(breaker: Breaker) -> str:
        started.wait()
        return str(refused(breaker, service))

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(probe, breakers))
    assert said.count("it is down") == 1, said
    assert service.calls == 2


def test_a_probe_that_dies_is_replaced(tmp_path: Path, clock: Clock) -> None:
    service = Service()
    one, two = make(Lakehouse(tmp_path), 2, Fuse(1, 30))
    refused(one, service)
    clock.wait(30)

    def die() -> None:  # neither an answer nor a failure is noted
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        one.call(die)
    service.up = True
    assert "left alone" in str(refused(two, service))  # the other one is the probe
    clock.wait(30)
    assert two.call(service) == "done"


def test_an_answer_is_no_failure(tmp_path: Path) -> None:
    (breaker,) = make(Lakehouse(tmp_path), 1, Fuse(2, 60))

    def throttled() -> None:
        raise TryLater("not so fast", 1, failing=False)

    def forbidden() -> None:
        raise UserError("you may not")

    for _ in range(3):
        refused(breaker, throttled)
        with pytest.raises(UserError, match="you may not"):
            breaker.call(forbidden)
    assert circuits(breaker.sink.lake) == []


def lakebed(lakehouse: Lakehouse, *arguments: str) -> str:
    done = lakehouse.run("lakebed", *arguments, check=False)
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_pulls_leave_a_dead_api_alone(tmp_path: Path) -> None:
    """Three processes, one after the other: the API is asked four times, not nine."""
    lakehouse = Lakehouse(tmp_path)
    with serving(Api([order(1)])) as api:
        pull = Pull(lakehouse, api, "none", retry=4, breaker={"failures": 4, "rest": 60})
        pull.run()
        api.faults, api.requests = ["500"] * 99, []
        for _ in range(3):
            output = pull.run(code=1)
        assert "is left alone for" in output
        assert len(api.requests) == 4
        assert f"{api.url}: open, 4 failures" in lakebed(lakehouse, "breakers")
        assert "No circuit nothing" in lakebed(lakehouse, "breakers", "--close", "nothing")
        api.faults = []
        pull.run(code=1)
        assert len(api.requests) == 4
        assert "closed." in lakebed(lakehouse, "breakers", "--close", api.url)
        pull.run()
        assert len(api.requests) == 5


def test_streams_leave_a_dead_broker_alone(tmp_path: Path) -> None:
    lakehouse = Lakehouse(tmp_path)
    make(lakehouse, 1, Fuse())
    file = tmp_path / "web.yml"
    file.write_text(
        "kafka: {bootstrap.servers: '127.0.0.1:1', socket.connection.setup.timeout.ms: 1000}\n"
        "topics: {a: web__a}\nbreaker: {failures: 2, rest: 60}\n"
    )
    said = [lakebed(lakehouse, "stream", "--once", str(file)) for _ in range(3)]
    assert ["No Kafka broker answers" in line for line in said[:2]] == [True, True]
    assert "kafka 127.0.0.1:1 is left alone for" in said[2]
