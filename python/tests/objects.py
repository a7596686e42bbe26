"""An object store for tests: SeaweedFS, one process that speaks S3, in a folder of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pytest
from lakebed.spark.cluster import free_ports
from lakebed.store import reach

KEY, SECRET = "lake-key", "lake-secret"
BUCKET = "s3://lake"


@dataclass
class ObjectStore:
    """`start`, `kill` (SIGKILL) and `start` again keep the objects; there is one bucket."""

    folder: Path
    ports: list[int] = field(default_factory=lambda: free_ports(8))
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def environment(self) -> dict[str, str]:
        """As AWS's own tools want to hear it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
        }

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        rights = ["Admin", "Read", "Write", "List", "Tagging"]
        keys = [{"accessKey": KEY, "secretKey": SECRET}]
        identities = [{"name": "lake", "credentials": keys, "actions": rights}]
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        names = ("s3", "master", "volume", "filer")
        ports = [f"-{name}.port={port}" for name, port in zip(names, self.ports, strict=False)]
        ports += [f"-{n}.port.grpc={p}" for n, p in zip(names, self.ports[4:], strict=True)]
        with (self.folder / "out.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *(str(Path(sys.executable).with_name("weed")), "server", "-s3"),
                    *(f"-dir={self.folder}", f"-s3.config={config}", "-ip=127.0.0.1", *ports),
                    *("-ip.bind=127.0.0.1", "-master.volumeSizeLimitMB=64", "-volume.max=0"),
                    "-s3.port.iceberg=0",
                    "-s3.port.lance=0",
                ],
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while not self._takes_objects():
            assert self.process.poll() is None, (self.folder / "out.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the object store does not answer"
            time.sleep(0.2)

    def _takes_objects(self) -> bool:
        with pytest.MonkeyPatch.context() as patch, duckdb.connect() as connection:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            reach(connection, BUCKET)
            with suppress(duckdb.Error):
                connection.execute(f"copy (select 1) to '{BUCKET}/ready.parquet'")
                return True
            return False

    def kill(self) -> None:
        assert self.process
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
