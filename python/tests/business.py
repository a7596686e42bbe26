"""The sample's subscription business, and the lake that follows its database."""

from __future__ import annotations

import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

from lakehouse import Lakehouse
from postgres import Postgres


class Business:
    """The application's database, and the lake that follows it."""

    def __init__(self, home: Path, source: Postgres) -> None:
        self.source = source
        self.lakehouse = Lakehouse(
            home,
            {
                "LAKEBED_DOMAINS": "saas",
                "LAKEBED_SAAS_POSTGRES": source.url,
            },
        )

    def live(self, until: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            ["lakebed", "sample", "saas", "--until", until],
            env=self.lakehouse.environment(),
            stdout=subprocess.DEVNULL,
        )

    def capture(self) -> None:
        self.lakehouse.run("lakebed", "capture", "streams/saas.yml", "--once")

    def ledger(self) -> list[tuple[str, str, dict[str, Any], datetime]]:
        return [
            (entity, op, row, at.replace(tzinfo=None))
            for entity, op, row, at in self.source.query(
                "select entity, op, row, at at time zone 'UTC' from ledger.changes order by seq"
            )
        ]
