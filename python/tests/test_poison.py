"""A record that kills the parser's process costs itself, and nobody else."""

from __future__ import annotations

import json
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from api import Api, serving
from broker import Broker
from lakebed.errors import UserError
from lakebed.ingest.checker import Check
from lakebed.ingest.config import to_entity
from lakehouse import Lakehouse
from pulls import Pull, order
from streams import Stream, everything, send
from webhooks import post
from webhooks import serving as serving_webhook

PROVES = ["pat-poison-pill-handling"]

#: What a record can do to the process of its parser; `think` is a good one.
CHECKS = """
import ctypes, json, os, sys, time

def order(value):
    print("a check may print")
    kind = json.loads(value).get("do")
    if kind == "segfault":
        ctypes.string_at(0)
    elif kind == "exit":
        os._exit(3)
    elif kind == "abort":
        os.abort()
    elif kind == "memory":
        hog = []
        while True:  # in C, where no MemoryError is raised
            hog.append(bytearray(50_000_000))
    elif kind == "overflow":
        sys.setrecursionlimit(10**9)
        def deeper(n):
            return deeper(n + 1) + 1
        deeper(0)
    elif kind == "hang":
        while True:
            time.sleep(1)
    elif kind == "raise":
        raise ValueError("no order")
    elif kind == "fail":
        raise KeyError("x")

def leak(value, held=[]):
    held.append(bytearray(20_000_000))
    if len(held) > 10:
        os._exit(1)

def wrong():
    pass
"""
DEADLY = ("segfault", "exit", "abort", "overflow", "hang")


@pytest.fixture
def checks(tmp_path: Path) -> Path:
    file = tmp_path / "checks.py"
    file.write_text(CHECKS)
    return file


def values(*kinds: str | None) -> list[bytes]:
    return [json.dumps({"id": n, "do": kind}).encode() for n, kind in enumerate(kinds)]


def test_each_way_to_die(checks: Path) -> None:
    check = Check(checks, "order", seconds=2, memory=700_000_000)
    kinds: list[str | None] = [None, "raise", *DEADLY, "memory", "fail", None]
    verdicts = check.judge(values(*kinds))
    found = dict(zip(kinds[1:-1], verdicts[1:-1], strict=True))
    assert verdicts[0] is verdicts[-1] is None
    assert found["raise"] == ("schema", "no order")
    assert found["fail"] == ("processing", "KeyError: 'x'")
    assert found["segfault"] == ("processing", "order killed its process (signal 11, SIGSEGV)")
    assert found["exit"] == ("processing", "order ended its process (exit 3)")
    assert found["abort"] == ("processing", "order killed its process (signal 6, SIGABRT)")
    assert found["hang"] == ("processing", "order was not done after 2 s")
    assert found["overflow"]
    assert found["memory"]
    # And it goes on with others.
    assert check.judge(values(None, None)) == [None, None]


def test_a_few_among_many(checks: Path) -> None:
    """Halving finds them in a number of steps that grows with the logarithm."""
    rng = random.Random(3)
    check = Check(checks, "order")
    deadly = set(rng.sample(range(5000), 2))
    kinds = ["exit" if number in deadly else None for number in range(5000)]
    started = time.monotonic()
    verdicts = check.judge(values(*kinds))
    assert {number for number, verdict in enumerate(verdicts) if verdict} == deadly
    assert time.monotonic() - started < 60


def test_what_only_many_together_do_is_nobodys_fault(checks: Path) -> None:
    """A leak kills the process after a few records: halves of them pass, so none is refused."""
    assert Check(checks, "leak").judge(values(*[None] * 40)) == [None] * 40


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ("checks.py", "is a Python file and a function"),
        ("none.py:order", "there is no"),
        ({"function": "checks.py:order", "seconds": 0}, "seconds is a number above 0"),
    ],
)
def test_mistakes_in_the_file(checks: Path, check: object, says: str) -> None:
    with pytest.raises(UserError, match=says):
        to_entity({"table": "a", "check": check}, "x.yml", checks.parent)


@pytest.mark.parametrize(("text", "says"), [("", "no such function"), ("1/0", "ZeroDivision")])
def test_a_check_that_is_not_there(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "checks.py").write_text(text)
    with pytest.raises(UserError, match=says):
        Check(tmp_path / "checks.py", "order").judge([b"{}"])


def poisoned(count: int, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    for number in range(count):
        kind = rng.choice(("segfault", "exit")) if number in (7, 70) else None
        yield str(number), json.dumps({"id": number, "do": kind}).encode()


def test_a_stream_with_poison_survives_kills(broker: Broker, checks: Path, tmp_path: Path) -> None:
    clicks = broker.topic("clicks")
    send(broker, clicks, poisoned(120, random.Random(1)))
    topics = {clicks: {"table": "web__clicks", "check": f"{checks.name}:order"}}
    stream = Stream(Lakehouse(tmp_path), broker, topics)
    stream.run("--fail-at", "positions-moved", code=-signal.SIGKILL)
    assert "118 rows, 2 to the DLQ" in stream.run()
    assert stream.sent() == everything(broker, clicks)
    found = stream.lakehouse.query("select position, category from ops.dlq order by position")
    assert found == [(7, "processing"), (70, "processing")]


def test_a_pull_with_poison(checks: Path, tmp_path: Path) -> None:
    rows = [order(0), order(1) | {"do": "segfault"}, order(2)]
    with serving(Api(rows)) as api:
        pull = Pull(Lakehouse(tmp_path), api, "none", resource={"check": f"{checks.name}:order"})
        assert "2 rows, 1 to the DLQ" in pull.run()
        assert "0 rows, 0 to the DLQ, 3 known" in pull.run()
        assert pull.ids() == [0, 2]


def test_a_webhook_with_poison(checks: Path, tmp_path: Path) -> None:
    """Whoever sent the good ones of the same batch hears that they are stored."""
    secret = "{{ env_var('SHOP_SECRET') }}"
    orders = {"table": "shop__orders", "secret": secret, "check": f"{checks.name}:order"}
    lakehouse = Lakehouse(tmp_path)
    batch = {"age": 1.0}
    with serving_webhook(lakehouse, endpoints={"orders": orders}, batch=batch) as (_, client):

        def send_one(number: int) -> str:
            kind = "segfault" if number == 2 else None
            body = json.dumps({"id": number, "do": kind})
            return str(post(client, f"m{number}", body).json()["status"])

        with ThreadPoolExecutor(5) as pool:
            said = list(pool.map(send_one, range(5)))
    assert said == ["stored", "stored", "dlq", "stored", "stored"]
    assert lakehouse.query("select count(*) from bronze.shop__orders") == [(4,)]
