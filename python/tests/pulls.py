"""Pulls of the tests: `lakebed pull` of an API (api.py), by each way of paging."""

from __future__ import annotations

import subprocess
from typing import Any

import yaml
from api import Api
from lakehouse import Lakehouse
from streams import LAKEBED

PAGINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "cursor": {
        "records": "data",
        "pages": {"by": "cursor", "param": "after", "next": "meta.next", "append_only": True},
    },
    "last": {"records": "data", "pages": {"by": "cursor", "param": "after", "more": "more"}},
    "page": {"pages": {"by": "page", "param": "page"}},
    "offset": {"records": "data", "pages": {"by": "offset", "param": "offset", "size": 10}},
    "link": {"pages": {"by": "link"}},
    "search": {
        "body": {"query": "rows"},
        "records": "data.rows",
        "errors": "errors",
        "pages": {
            **{"by": "cursor", "param": "page.after", "next": "data.info.end"},
            **{"more": "data.info.more", "size": 10, "size_param": "page.size"},
        },
        "since": {"field": "at", "param": "page.since"},
    },
    "timestamp": {
        "pages": {"by": "timestamp", "size": 10},
        "since": {"field": "at", "param": "since", "overlap": 60},
    },
}


class Pull:
    """A pull's file in `lakehouse`, and its process."""

    def __init__(self, lakehouse: Lakehouse, api: Api, paging: str, **settings: Any) -> None:
        self.lakehouse = lakehouse
        lakehouse.env["TOKEN"] = "t0k"
        resource = {"path": f"/{paging}", "table": "shop__orders", **PAGINGS[paging]}
        resource |= settings.pop("resource", {})
        content = {"name": "shop", "url": api.url, "resources": {"orders": resource}, **settings}
        self.file = lakehouse.home / "shop.yml"
        self.file.write_text(yaml.safe_dump(content), encoding="utf-8")

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*LAKEBED, "pull", str(self.file), *options],
            env=self.lakehouse.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *options: str, code: int = 0) -> str:
        done = self.lakehouse.run("lakebed", "pull", str(self.file), *options, check=False)
        output = done.stdout + done.stderr
        assert done.returncode == code, (done.returncode, output)
        assert "Traceback" not in output
        return output

    def ids(self) -> list[int]:
        rows = self.lakehouse.query("select _key, _offset from bronze.shop__orders order by 2")
        return [int(row[0]) for row in rows]


def order(number: int) -> dict[str, Any]:
    """A row; three have the same time."""
    return {"id": number, "at": f"2024-01-01T00:{number // 3:02d}:00.000000Z", "price": 1.10}
