"""A real gateway, and devices as processes of their own. For tests of the edge."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml
from lakebed.edge.post import CONTENT_TYPE, key_of, signature
from lakebed.spark.cluster import free_ports
from lakehouse import REPO, Lakehouse
from streams import LAKEBED

SECRET = "whsec_" + "c2VjcmV0IG9mIHRlc3Rz"
#: A device as a program: takes numbered records, and writes down those it was promised.
DEVICE = """
import json, random, sys, time
from pathlib import Path
from lakebed.edge import Edge, EdgeFull
from lakebed.edge.cli import POINTS
from lakebed.ingest.faults import Faults

folder, url, secret, device, first, count, fail_at, skew, options = sys.argv[1:]
promised = Path(folder + ".promised").open("a")
edge = Edge(
    device, url, secret, folder, reach=Faults(fail_at or None, POINTS).reach,
    clock=lambda: time.time() + float(skew), **json.loads(options)
)
for number in range(int(first), int(first) + int(count)):
    record = {"id": number, "device": device, "pad": "x" * random.randrange(200)}
    try:
        edge.send(record)
    except EdgeFull:
        edge.flush(20)
        edge.send(record)
    promised.write(f"{number}\\n")
    promised.flush()
edge.flush(20)
print(edge.waiting, edge.trouble)
edge.close()
"""


@dataclass
class Gateway:
    """`lakebed gateway` as a process, on one port; `start` it again after it was killed."""

    lakehouse: Lakehouse
    settings: dict[str, Any] = field(default_factory=dict)
    port: int = 0
    process: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        (self.port,) = free_ports(1)
        pumps = {"table": "edge__pumps", "secret": SECRET, "required": ["id"]}
        content = {"name": "edge", "endpoints": {"pumps": pumps}, **self.settings}
        self.file = self.lakehouse.home / f"edge-{self.port}.yml"
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/edge/pumps"

    def start(self, *options: str) -> None:
        self.process = subprocess.Popen(
            [*LAKEBED, "gateway", str(self.file), "--port", str(self.port), *options],
            env=self.lakehouse.environment() | {"DBT_PROJECT_DIR": str(REPO)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        while self.process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{self.port}/health", verify=False)
                return
            except httpx.TransportError:
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> str:
        assert self.process
        self.process.send_signal(how)
        return self.process.communicate(timeout=60)[0]

    def post(self, body: bytes, device: str = "d", **changed: str) -> httpx.Response:
        """Sign and send bytes, with headers changed."""
        moment = int(time.time())
        headers = {
            "content-type": CONTENT_TYPE,
            "lakebed-device": device,
            "webhook-id": "m1",
            "webhook-timestamp": str(moment),
            "webhook-signature": signature(key_of(SECRET), "m1", moment, body),
        }
        return httpx.post(self.url, content=body, headers=headers | changed, timeout=30)

    def stored(self, device: str) -> list[int]:
        """The ids that are in bronze or in the DLQ, in the order of their epochs and sequences."""
        rows = self.lakehouse.query(
            "select _topic, _offset, _record from bronze.edge__pumps"
            f" where _key = '{device}' union all"
            " select topic, position, record_value::varchar from ops.dlq"
            f" where record_key = '{device}'::blob order by 1, 2"
        )
        return [json.loads(record)["id"] for _, _, record in rows]


@dataclass
class Device:
    """A device with a folder; each `start` is one life of it."""

    folder: Path
    url: str
    name: str = "pump-7"
    skew: float = 0
    options: dict[str, Any] = field(default_factory=dict)

    def start(self, first: int, count: int, fail_at: str = "") -> subprocess.Popen[str]:
        program = (DEVICE, str(self.folder), self.url, SECRET, self.name)
        numbers = (str(first), str(count), fail_at, str(self.skew), json.dumps(self.options))
        return subprocess.Popen(
            [sys.executable, "-c", *program, *numbers],
            env={**os.environ, "PYTHONPATH": str(REPO / "python")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, first: int, count: int, fail_at: str = "") -> str:
        """One life, to its end; what it said. With `fail_at` it must be killed there."""
        process = self.start(first, count, fail_at)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == (-signal.SIGKILL if fail_at else 0), output
        return output

    @property
    def promised(self) -> list[int]:
        """What `send` returned for, in all lives."""
        file = Path(f"{self.folder}.promised")
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        return [int(line) for line in lines if line.endswith("\n")]
