"""`lakebed sample web`: real baskets as events, the same each time, with a truth that is true."""

from __future__ import annotations

import base64
import csv
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import duckdb
import pytest
from lakebed.sample.cli import app
from lakebed.sample.destinations import destination
from lakebed.sample.retail import package_data
from lakebed.sample.web import DAMAGES, SESSION, TRUTH, Options, _paced, events
from standardwebhooks import Webhook
from typer.testing import CliRunner

PROVES = ["pat-watermarking", "pat-webhook-sink"]

FAULTY = Options(until=date(2017, 1, 2), disorder=0.3, late=0.02, duplicates=0.03, malformed=0.02)
RATES = ("--disorder", "0.3", "--late", "0.02", "--duplicates", "0.03", "--malformed", "0.02")


def test_purchases_are_the_baskets() -> None:
    sent = list(events(Options(until=date(2017, 1, 3))))
    found = {e.event.basket_id: e.event for e in sent if e.event.event_type == "purchased"}
    baskets = duckdb.sql(
        "select basket_id, any_value(household_id), any_value(transaction_timestamp),"
        f" sum(sales_value::decimal(12, 2)) from '{package_data()}/transactions.parquet'"
        " where transaction_timestamp < '2017-01-04' group by 1"
    ).fetchall()
    assert len(baskets) == len(found) > 1000
    for basket, *truth in baskets:
        event = found[basket]
        assert [event.household_id, event.event_time, event.amount] == truth
    assert [e.at for e in sent] == sorted(e.event.event_time for e in sent)
    assert [e.position for e in sent] == list(range(len(sent)))
    assert len({e.event.event_id for e in sent}) == len(sent)
    sessions: dict[str, list[datetime]] = {}
    for e in sent:
        sessions.setdefault(e.event.session_id, []).append(e.event.event_time)
    assert all(times[-1] - times[0] <= SESSION for times in sessions.values())
    assert 0.2 < sum(s.endswith("-b") for s in sessions) / len(baskets) < 0.4


def test_faults_are_what_the_truth_says() -> None:
    sent = list(events(FAULTY))
    clean = {e.event.event_id: e for e in events(Options(until=date(2017, 1, 2)))}
    assert {e.event.event_id for e in sent} == set(clean)  # nothing is lost on the way
    assert [e.at for e in sent] == sorted(e.at for e in sent)
    kinds = Counter(e.fault for e in sent)
    assert set(kinds) == {"", "disorder", "late", "duplicate", *DAMAGES}
    newest = datetime.min
    behind: dict[str, timedelta] = {}
    for e in sent:
        delay = e.at - e.event.event_time
        known: dict[str, bool] = {
            "": not delay,
            "disorder": timedelta() <= delay <= timedelta(seconds=FAULTY.within),
            "late": delay == timedelta(seconds=FAULTY.late_by),
        }
        assert known.get(e.fault, True)
        if e.outcome in ("silver", "duplicate"):
            behind[e.fault] = max(behind.get(e.fault, delay), newest - e.event.event_time)
            newest = max(newest, e.event.event_time)
            assert e.body == clean[e.event.event_id].body
    assert behind["disorder"] <= timedelta(seconds=FAULTY.within) < behind["late"]
    once = Counter(e.event.event_id for e in sent if e.outcome == "silver")
    assert set(once.values()) == {1}
    for e in sent:
        if e.outcome == "dlq":
            with pytest.raises(ValueError, match=r"codec|JSON|Expecting|Unterminated"):
                json.loads(e.body.decode())
        else:
            json.loads(e.body.decode())


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    def run(name: str, *options: str) -> tuple[bytes, bytes, str]:
        file, truth = tmp_path / name, tmp_path / f"{name}.csv"
        command = ["web", "--to", str(file), "--truth", str(truth), *RATES, *options]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        return file.read_bytes(), truth.read_bytes(), done.output

    first, again, other = run("a"), run("b"), run("c", "--seed", "8")
    assert first == again
    assert first[0] != other[0]
    rows = list(csv.DictReader(first[1].decode().splitlines()))
    assert list(rows[0]) == list(TRUTH)
    assert len(rows) == len(first[0].splitlines())
    revenue = sum(
        Decimal(row["amount"])
        for row in rows
        if row["outcome"] == "silver" and row["event_type"] == "purchased"
    )
    assert f"purchases that must come out: {revenue:,} dollars" in first[2]


SECRET = "whsec_" + base64.b64encode(b"a secret of the tests").decode()


@contextmanager
def receiver() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """An honest endpoint that is busy now and then."""
    taken: list[tuple[str, bytes]] = []
    asked = Counter[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            message = self.headers["webhook-id"]
            asked[message] += 1
            code = 200
            if len(taken) % 50 == 7 and asked[message] == 1:
                code = 503
            else:
                try:
                    Webhook(SECRET).verify(body, dict(self.headers), json_parse=False)
                    taken.append((message, body))
                except Exception:
                    code = 400 if b"\xff" in body else 401
            self.send_response(code)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/webhooks/clicks", taken
    finally:
        server.shutdown()
        server.server_close()


def test_webhooks_are_signed_and_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEBED_WEBHOOK_SECRET", SECRET)
    some = [e for e, _ in zip(events(FAULTY), range(200), strict=False)]
    with receiver() as (url, taken):
        to = destination(url)
        for sent in some:
            to.send(sent)
        to.close()
    assert [body for _, body in taken] == [e.body for e in some if b"\xff" not in e.body]
    assert len({message for message, _ in taken}) == len(taken)


def test_speed_is_that_of_the_events() -> None:

    some = [e for e, _ in zip(events(Options()), range(30), strict=False)]
    lasted = (some[-1].at - some[0].at).total_seconds()
    started = time.monotonic()
    assert list(_paced(iter(some), lasted / 0.5)) == some
    assert 0.45 < time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "kafka://localhost:9"), "is not like kafka://localhost:9092/clicks"),
        (("--to", "nowhere.yml"), "nowhere.yml: No such file"),
        (("--to", "/nowhere/x"), "Cannot write /nowhere/x: No such file"),
        (("--to", "http://127.0.0.1:9/"), "Set LAKEBED_WEBHOOK_SECRET to the secret"),
        (("--to", "-", "--from", "2017-01-02", "--until", "2017-01-01"), "is after --until"),
        (("--to", "-", "--truth", "/nowhere/t.csv"), "Cannot write /nowhere/t.csv"),
    ],
)
def test_mistakes_are_one_line(options: tuple[str, ...], message: str) -> None:
    done = CliRunner().invoke(app, ["web", *options])
    assert done.exit_code == 1
    assert message in done.output
    assert len(done.output.splitlines()) == 1, done.output
