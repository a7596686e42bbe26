"""`lakebed webhook`: a real server, honest senders and others."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from lakebed.errors import UserError
from lakebed.ingest.webhook import read_webhooks
from lakehouse import Lakehouse, TeamLakehouse
from webhooks import OLD, SECRET, Server, mutated, post, serving, signed

PROVES = ["pat-webhook-sink", "pat-backpressure-strategies"]


def raw(port: int, request: bytes, wait: float = 5) -> bytes:
    """Send bytes, say no more, and read what comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=wait) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        try:
            return connection.recv(65536)
        except TimeoutError:
            return b""


def test_who_gets_in(tmp_path: Path) -> None:
    lakehouse = Lakehouse(tmp_path)
    with serving(lakehouse, max_bytes=10_000, body_seconds=1) as (server, client):
        body = json.dumps({"id": 1, "text": "é"})
        assert post(client, "m1", body).json() == {"status": "stored"}
        assert server.rows() == [("m1", body, 0)]  # an answer of 2xx: it is there
        assert post(client, "m2", body, secret=OLD).status_code == 200

        # The same message again: of the lake's own memory, and at once.
        assert post(client, "m1", body).json() == {"status": "duplicate"}
        with ThreadPoolExecutor(8) as pool:
            same = list(pool.map(lambda _: post(client, "m3", body).json()["status"], range(8)))
        assert same.count("stored") >= 1
        # Not what was agreed: to the DLQ, which is durable, too; and not twice.
        assert post(client, "m4", '{"no": 1}').json() == {"status": "dlq"}
        assert post(client, "m4", '{"no": 1}').json() == {"status": "duplicate"}
        assert post(client, "m5", "{broken").json() == {"status": "dlq"}

        forged = signed("m6", body)
        cases: list[tuple[int, dict[str, Any]]] = [
            (401, {"content": body.encode(), "headers": forged | {"webhook-id": "other"}}),
            (401, {"content": b'{"id": 2}', "headers": forged}),
            (401, {"content": body.encode()}),
            (401, {"content": body.encode(), "headers": forged | {"webhook-signature": "v1"}}),
            (401, {"content": body.encode(), "headers": forged | {"webhook-signature": "v1,%"}}),
            (401, {"content": body.encode(), "headers": forged | {"webhook-timestamp": "nan"}}),
            (401, {"content": body.encode(), "headers": signed("m6", body, OLD[:-8] + "AAAA")}),
            # Replayed later, and dated ahead.
            (
                401,
                {"content": body.encode(), "headers": signed("m6", body, age=timedelta(hours=1))},
            ),
            (
                401,
                {"content": body.encode(), "headers": signed("m6", body, age=-timedelta(hours=1))},
            ),
            (400, {"content": b"\xff\xfe", "headers": forged}),
            (413, {"content": b"x" * 20_000, "headers": forged}),
            (413, {"content": iter([b"x" * 6000, b"x" * 6000]), "headers": forged}),
            (
                415,
                {
                    "content": gzip.compress(bytes(9_000_000)),
                    "headers": forged | {"content-encoding": "gzip"},
                },
            ),
        ]
        for status, request in cases:
            answer = client.post("/webhooks/orders", **request)
            assert answer.status_code == status, (answer.status_code, answer.text, request)
        assert client.post("/webhooks/nobody", content=b"").status_code == 404

        # Truncated, too slow, and not HTTP at all.
        head = b"POST /webhooks/orders HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        assert b" 200 " not in raw(server.port, head)
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as slow:
            slow.sendall(head)
            assert b" 408 " in slow.recv(4096)
        assert b" 200 " not in raw(server.port, os.urandom(500))
        generator = random.Random(5)
        for number in range(60):
            headers = {k: mutated(v, generator) for k, v in signed(f"z{number}", body).items()}
            assert client.post("/webhooks/orders", content=body, headers=headers).status_code in (
                400,
                401,
            )

        assert client.get("/health").json() == {"waiting": 0, "waiting_bytes": 0}
        assert {row[0] for row in server.rows()} == {"m1", "m2", "m3"}
        assert [row[2] for row in server.rows()] == [0, 1, 2]  # each once
        assert lakehouse.query("select record_key, category from ops.dlq order by position") == [
            (b"m4", "schema"),
            (b"m5", "malformed"),
        ]


def test_replayed_once_after_a_fix(tmp_path: Path) -> None:
    """What was refused is delivered under its own id: who sends it again sends a duplicate."""
    lakehouse = Lakehouse(tmp_path)
    lakehouse.env["SHOP_SECRET"] = SECRET
    with serving(lakehouse) as (server, client):
        assert post(client, "m1", '{"id": 1}').json() == {"status": "stored"}
        assert post(client, "m2", '{"no": 2}').json() == {"status": "dlq"}
        assert post(client, "m3", "{broken").json() == {"status": "dlq"}

    def replay(*options: str, code: int = 0) -> str:
        done = lakehouse.run("lakebed", "dlq", "replay", str(server.file), *options, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    assert "0 delivered, 2 refused again" in replay()
    fixed = yaml.safe_load(server.file.read_text(encoding="utf-8"))
    fixed["endpoints"]["orders"]["required"] = ["no"]
    server.file.write_text(yaml.safe_dump(fixed), encoding="utf-8")
    replay("--fail-at", "rows-written", code=-signal.SIGKILL)
    assert "1 delivered, 1 refused again" in replay()
    assert "0 delivered, 1 refused again" in replay()
    assert server.rows() == [("m1", '{"id": 1}', 0), ("m2", '{"no": 2}', 1)]
    server.start()
    try:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            assert post(client, "m2", '{"no": 2}').json() == {"status": "duplicate"}
            assert post(client, "m4", '{"no": 4}').json() == {"status": "stored"}
    finally:
        server.stop()
    assert [row[0] for row in server.rows()] == ["m1", "m2", "m4"]
    fixed["endpoints"] = {"others": fixed["endpoints"]["orders"]}
    server.file.write_text(yaml.safe_dump(fixed), encoding="utf-8")
    assert "Error: hooks no longer has the topic orders" in replay(code=1)


def test_flood_and_a_busy_lake(tmp_path: Path) -> None:
    """Under pressure 429, with a busy lake 503, with Retry-After; what was promised is kept."""
    lakehouse = Lakehouse(tmp_path)
    settings = {"waiting": 8, "patience": 1, "max_bytes": 1000}
    with serving(lakehouse, **settings) as (server, client):
        body = json.dumps({"id": 1})

        def send(number: int) -> tuple[str, httpx.Response]:
            return f"f{number}", post(client, f"f{number}", body)

        assert send(0)[1].status_code == 200
        with ThreadPoolExecutor(40) as pool:
            answers = list(pool.map(send, range(1, 100)))
        assert {answer.status_code for _, answer in answers} == {200, 429}
        held = lakehouse.connect()
        with ThreadPoolExecutor(4) as pool:
            busy = list(pool.map(send, range(1000, 1004)))
        held.close()
        assert {answer.status_code for _, answer in busy} == {503}
        assert all("retry-after" in a.headers for _, a in answers + busy if a.status_code != 200)

        promised = {"f0"} | {name for name, answer in answers if answer.status_code == 200}
        rows = server.rows()
        assert sorted(row[0] for row in rows) == sorted(promised)  # each once, nothing else

        # Those that were turned away come again.
        def insist(name: str) -> None:
            while post(client, name, body).status_code != 200:
                time.sleep(0.05)

        with ThreadPoolExecutor(6) as pool:
            list(pool.map(insist, [n for n, a in answers + busy if a.status_code != 200]))
        rows = server.rows()
        assert len(rows) == len({row[0] for row in rows}) == 104


def test_what_is_large_is_not_in_the_catalogue(tmp_path: Path) -> None:
    """DuckLake keeps few rows in its catalogue, however long they are; on `local` that is rewritten
    at each commit."""
    lakehouse = Lakehouse(tmp_path)
    large = json.dumps({"id": 1, "text": random.Random(1).randbytes(200_000).hex()})
    with serving(lakehouse) as (server, client):
        for number in range(5):
            assert post(client, f"small{number}", json.dumps({"id": 1})).status_code == 200
        assert [*lakehouse.home.rglob("shop__orders/*.parquet")] == []
        for number in range(5):
            assert post(client, f"large{number}", large).status_code == 200
            assert post(client, f"bad{number}", large.replace("id", "no")).status_code == 200
        files = [path.stat().st_size for path in lakehouse.home.rglob("*.parquet")]
        assert len([size for size in files if size > 100_000]) == 10
        assert len(server.rows()) == 10
    assert (lakehouse.home / "lake" / "catalog.ducklake").stat().st_size < 20_000_000


@pytest.mark.team
def test_two_servers_over_one_lake(team: TeamLakehouse) -> None:
    """Each message is sent to both at once, as a sender does that got no answer in time."""
    settings = {"batch": {"age": 0.001}, "patience": 30}  # no pause in which one is alone
    with (
        serving(team, **settings) as (server, first),
        serving(team, **settings) as (_, second),
    ):
        body = json.dumps({"id": 1})

        def both(number: int) -> set[str]:
            with ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(lambda c: post(c, f"b{number}", body), (first, second)))
            assert [answer.status_code for answer in answers] == [200, 200]
            return {answer.json()["status"] for answer in answers}

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(both, range(40)))
        assert results == [{"stored", "duplicate"}] * 40
        rows = server.rows()
        assert sorted(row[0] for row in rows) == sorted(f"b{number}" for number in range(40))
        assert [row[2] for row in rows] == list(range(40))


def killed_servers(tmp_path: Path, seed: int, kills: int) -> None:
    """Senders send until 2xx, the server is killed at any step: each message is there once."""
    lakehouse, rng = Lakehouse(tmp_path), random.Random(seed)
    server = Server(lakehouse)
    done = threading.Event()
    sent: list[str] = []

    def sender(number: int) -> None:
        count = 0
        client = httpx.Client(base_url=server.url, timeout=10, verify=False)
        while not done.is_set():
            name, body = f"{number}-{count}", json.dumps({"id": count})
            sent.append(name)
            while True:
                try:
                    if post(client, name, body).status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.1)
            count += 1

    points = ("positions-moved", "committed", "begun", "rows-written", "received", "acknowledged")
    server.start("--fail-at", f"{points[0]}:3")
    threads = [threading.Thread(target=sender, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for kill in range(kills):
            assert server.process
            assert server.process.wait(60) == -signal.SIGKILL
            point = points[kill + 1] if kill + 1 < len(points) else rng.choice(points)
            last = kill + 1 == kills
            options = () if last else ("--fail-at", f"{point}:{rng.randint(2, 5)}")
            _start_among_senders(server, *options)
    finally:
        done.set()
        for thread in threads:
            thread.join()
        server.stop()
    rows = [row[0] for row in server.rows()]
    assert sorted(rows) == sorted(sent)
    assert [row[2] for row in server.rows()] == list(range(len(sent)))


def _start_among_senders(server: Server, *options: str) -> None:
    """It may be killed again before it is asked whether it is there."""
    try:
        server.start(*options)
    except AssertionError:
        assert server.process
        assert server.process.wait(10) == -signal.SIGKILL


def test_killed_at_every_step(tmp_path: Path) -> None:
    killed_servers(tmp_path, 1, 3)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_killed_at_every_step_soak(tmp_path: Path) -> None:
    killed_servers(tmp_path, 2, 100)


@pytest.mark.parametrize(
    ("endpoint", "says"),
    [
        ({"signature": "paypal", "secret": "x"}, "signature is standard, github, stripe"),
        ({"signature": "github", "secret": " "}, "secret is not a text"),
        ({"signature": "github", "secret": ""}, "needs a secret"),
        ({"secret": "%"}, "secret is not base64"),
    ],
)
def test_mistakes_of_an_endpoint(tmp_path: Path, endpoint: dict[str, str], says: str) -> None:
    file = tmp_path / "hooks.yml"
    file.write_text(yaml.safe_dump({"endpoints": {"a": {"table": "a", **endpoint}}}))
    with pytest.raises(UserError, match=says):
        read_webhooks(file)
