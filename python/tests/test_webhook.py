"""`lakebed webhook`: a real server, honest senders and others."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from lakebed.errors import UserError
from lakebed.ingest.signatures import STYLES, Message
from lakebed.ingest.webhook import read_webhooks
from lakebed.spark.cluster import free_ports
from lakehouse import REPO, Lakehouse, TeamLakehouse
from standardwebhooks import Webhook
from streams import LAKEBED

PROVES = ["pat-webhook-sink", "pat-backpressure-strategies"]

SECRET = "whsec_" + base64.b64encode(b"a secret of the tests").decode()
OLD = "whsec_" + base64.b64encode(b"the secret before").decode()


class Server:
    """`lakebed webhook` as a process; `start` it again after `kill`."""

    def __init__(self, lakehouse: Lakehouse, **settings: Any) -> None:
        self.lakehouse = lakehouse
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.file = lakehouse.home / "hooks.yml"
        orders = {
            "table": "shop__orders",
            "secret": ["{{ env_var('SHOP_SECRET') }}", OLD],
            "required": ["id"],
        }
        content = {"name": "hooks", "endpoints": {"orders": orders}, **settings}
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")
        self.process: subprocess.Popen[str] | None = None

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*LAKEBED, "webhook", str(self.file), "--port", str(self.port), *options],
            env=self.lakehouse.environment()
            | {"DBT_PROJECT_DIR": str(REPO), "SHOP_SECRET": SECRET},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(f"{self.url}/health", verify=False)
                return
            except httpx.TransportError:
                time.sleep(0.1)
                assert time.monotonic() < deadline
                assert self.process.poll() is None

    def stop(self, how: signal.Signals = signal.SIGTERM) -> str:
        assert self.process
        self.process.send_signal(how)
        return self.process.communicate(timeout=60)[0]

    def rows(self) -> list[tuple[Any, ...]]:
        return self.lakehouse.query(
            "select _key, _record, _offset from bronze.shop__orders order by _offset"
        )


def signed(
    message_id: str, body: str, secret: str = SECRET, age: timedelta = timedelta()
) -> dict[str, str]:
    moment = datetime.now(timezone.utc) - age
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, moment, body),
    }


@contextmanager
def serving(lakehouse: Lakehouse, **settings: Any) -> Iterator[tuple[Server, httpx.Client]]:
    server = Server(lakehouse, **settings)
    server.start()
    try:
        with httpx.Client(base_url=server.url, timeout=30) as client:
            yield server, client
    finally:
        if server.process and server.process.poll() is None:
            output = server.stop()
            print(output)  # pytest shows it when the test has failed
            assert server.process.returncode in (0, -signal.SIGTERM), output


def post(client: httpx.Client, message_id: str, body: str, **more: Any) -> httpx.Response:
    return client.post(
        "/webhooks/orders", content=body.encode(), headers=signed(message_id, body, **more)
    )


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
            headers = {k: _mutated(v, generator) for k, v in signed(f"z{number}", body).items()}
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


def _mutated(text: str, generator: random.Random) -> str:
    place = generator.randrange(len(text))
    return text[:place] + generator.choice("!#x9") + "~" + text[place + 1 :]


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


def github(body: bytes, secret: str, delivery: str) -> dict[str, str]:
    """As GitHub's documentation says: a hexadecimal HMAC of the body."""
    mark = hmac.new(secret.encode(), body, "sha256").hexdigest()
    return {
        "X-Hub-Signature-256": f"sha256={mark}",
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": "push",
    }


def stripe(body: bytes, *secrets: str, age: float = 0, version: str = "v1") -> dict[str, str]:
    """As Stripe's documentation says: of the time and the body; with each secret there is."""
    moment = int(time.time() - age)
    marks = [
        hmac.new(secret.encode(), f"{moment}.".encode() + body, "sha256").hexdigest()
        for secret in secrets
    ]
    parts = [f"t={moment}", *(f"{version}={mark}" for mark in marks), "v0=abc"]
    return {"Stripe-Signature": ",".join(parts)}


def test_the_documented_signature_of_github() -> None:
    # From 'Validating webhook deliveries' of GitHub's documentation.
    secret, body = "It's a Secret to Everybody", b"Hello, World!"
    mark = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    headers = {"x-hub-signature-256": f"sha256={mark}", "x-github-delivery": "d1"}
    assert STYLES["github"].message([secret], body, headers) == Message("d1", None)
    assert STYLES["github"].message([secret], body + b"!", headers) is None


@pytest.mark.parametrize("style", ["github", "stripe"])
def test_signatures_that_do_not_hold(style: str) -> None:
    """Forged, cut off and mixed up in every place: never taken, never an error."""
    body = b'{"id": "evt_1", "text": "\xc3\xa9"}'
    made = github(body, "new", "d1") if style == "github" else stripe(body, "new")
    headers = {name.lower(): value for name, value in made.items()}
    rule = STYLES[style]
    found = rule.message(["new"], body, headers)
    assert found is not None
    assert found.id == ("d1" if style == "github" else "evt_1")
    # While the secret is changed the old one holds, and not after.
    assert rule.message(["newer", "new"], body, headers) == found
    assert rule.message(["newer"], body, headers) is None
    assert rule.message([], body, headers) is None
    (name,) = [each for each in headers if "signature" in each]
    text = headers[name]
    for end in range(len(text) - len(",v0=abc") * (style == "stripe")):
        assert rule.message(["new"], body, headers | {name: text[:end]}) is None
    generator = random.Random(3)
    for _ in range(300):
        place = generator.randrange(len(body))
        changed = body[:place] + generator.randbytes(1) + body[place + 1 :]
        if changed != body:
            assert rule.message(["new"], changed, headers) is None
        assert rule.message(["new"], body, headers | {name: _mutated(text[:64], generator)}) is None
    for wrong in ("", ",", "=", "t=", "é", "t=1,t=2", "sha256=", "sha1=", text.upper(), f"é{text}"):
        assert rule.message(["new"], body, headers | {name: wrong}) is None
    assert rule.message(["new"], body, {}) is None


def test_when_stripe_signed_it() -> None:
    rule, body = STYLES["stripe"], b'{"id": "evt_1"}'

    def message(**how: Any) -> Message | None:
        headers = stripe(body, "secret", **how)
        return rule.message(["secret"], body, {"stripe-signature": headers["Stripe-Signature"]})

    assert message(age=290) is not None
    assert message(age=310) is None
    assert message(age=-310) is None
    assert message(version="v0") is None
    # Two secrets at the sender, as while one is rolled.
    both = {"stripe-signature": stripe(body, "old", "secret")["Stripe-Signature"]}
    assert rule.message(["secret"], body, both) is not None
    # What is signed and has no id of its own is known by its bytes.
    for other in (b"[]", b'{"id": 5}', b'{"id": ""}', b"no json", b'{"id": "%s"}' % (b"x" * 201)):
        mark = {"stripe-signature": stripe(other, "secret")["Stripe-Signature"]}
        found = rule.message(["secret"], other, mark)
        assert found is not None
        assert found.id == f"sha256:{hashlib.sha256(other).hexdigest()}"


def test_github_and_stripe(tmp_path: Path) -> None:
    endpoints = {
        "code": {"table": "git__events", "secret": "code secret", "signature": "github"},
        "money": {
            "table": "pay__events",
            "secret": ["rolled", "money secret"],
            "signature": "stripe",
        },
    }
    lakehouse = Lakehouse(tmp_path)
    with serving(lakehouse, endpoints=endpoints) as (_, client):

        def post(name: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
            answer = client.post(f"/webhooks/{name}", content=body, headers=headers)
            return answer.status_code, answer.json().get("status")

        push, paid = b'{"ref": "main"}', b'{"id": "evt_1", "type": "paid"}'
        assert post("code", push, github(push, "code secret", "d1")) == (200, "stored")
        # Sent again, as GitHub does with the same id.
        assert post("code", push, github(push, "code secret", "d1")) == (200, "duplicate")
        assert post("code", push, github(push, "wrong", "d2"))[0] == 401
        assert post("code", push, github(push, "code secret", "d" * 201))[0] == 400
        assert post("money", paid, stripe(paid, "money secret")) == (200, "stored")
        assert post("money", paid, stripe(paid, "rolled", "another")) == (200, "duplicate")
        # Of the right secret, and of another endpoint's style; and replayed after its time.
        assert post("money", paid, github(paid, "money secret", "d3"))[0] == 401
        assert post("money", paid, stripe(paid, "money secret", age=400))[0] == 401
        assert post("money", b"{broken", stripe(b"{broken", "rolled")) == (200, "dlq")
        assert post("money", b"{broken", stripe(b"{broken", "rolled")) == (200, "duplicate")
    assert lakehouse.query("select _key, _record, _sent_at from bronze.git__events") == [
        ("d1", push.decode(), None)
    ]
    ((headers,),) = lakehouse.query("select _headers from bronze.git__events")
    assert ["x-github-event", "push"] in json.loads(headers)
    assert lakehouse.query(
        "select _key, _record, _sent_at is not null from bronze.pay__events"
    ) == [("evt_1", paid.decode(), True)]


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
