"""Webhooks of the tests: `lakebed webhook` as a server, and a sender who signs."""

from __future__ import annotations

import base64
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import httpx
import yaml
from lakebed.spark.cluster import free_ports
from lakehouse import REPO, Lakehouse
from standardwebhooks import Webhook
from streams import LAKEBED

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


def mutated(text: str, generator: random.Random) -> str:
    place = generator.randrange(len(text))
    return text[:place] + generator.choice("!#x9") + "~" + text[place + 1 :]
