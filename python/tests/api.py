"""An HTTP API for tests: real sockets, real faults, rows that change while they are read."""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

SIZE = 10


@dataclass
class Api:
    """Lists `rows` under /<paging>. `faults` are used up, one a request; `before(number)` is called
    with the number of each good request."""

    rows: list[Any] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    token: str | None = None
    #: OAuth: what the form at /token must hold; each answer has a new token, and how long it lives.
    form: dict[str, str] | None = None
    basic: str | None = None
    life: Any = 3600
    issued: int = 0
    before: Callable[[int], None] | None = None
    requests: list[tuple[float, str]] = field(default_factory=list)
    newest_first: bool = False
    good: int = 0
    port: int = 0
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def page(self, paging: str, query: dict[str, Any]) -> tuple[Any, dict[str, str]]:
        """The content and the headers of an answer."""
        rows = self.rows[::-1] if self.newest_first else list(self.rows)
        if "since" in query:
            rows = [row for row in rows if _at(row) >= query["since"]]
        if paging == "none":
            return rows, {}
        if paging == "cursor":
            start = int(query.get("after", 0))
            more = start + SIZE < len(rows)
            following = str(start + SIZE) if more else None
            return {"data": rows[start : start + SIZE], "meta": {"next": following}}, {}
        if paging == "last":  # the cursor is the last record's id
            ids = [row["id"] for row in rows]
            start = ids.index(int(query["after"])) + 1 if "after" in query else 0
            return {"data": rows[start : start + SIZE], "more": start + SIZE < len(rows)}, {}
        if paging in ("page", "link"):
            number = int(query.get("page", 1))
            part = rows[(number - 1) * SIZE : number * SIZE]
            headers = {}
            if paging == "link" and "size" in query:  # the link is in the answer, and relative
                following = f"?size=3&page={number + 1}" if number * SIZE < len(rows) else None
                return {"data": part, "links": {"next": following}}, {}
            if paging == "link" and number * SIZE < len(rows):
                headers["Link"] = f'</link?page={number + 1}>; rel="next", </link>; rel="first"'
            return part, headers
        if paging == "search":  # by POST
            assert query["size"] == SIZE
            start = int(query.get("after", 0))
            info = {"end": str(start + SIZE), "more": start + SIZE < len(rows)}
            return {"data": {"rows": rows[start : start + SIZE], "info": info}, "errors": []}, {}
        if paging == "offset":
            start = int(query["offset"])
            return {"data": rows[start : start + SIZE]}, {}
        assert paging == "timestamp"
        return sorted(rows, key=lambda row: row["at"])[:SIZE], {}


def _at(row: Any) -> str:
    """What has no time is never left out."""
    return str(row.get("at", "~")) if isinstance(row, dict) else "~"


def _handler(api: Api) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.list_rows({})

        def list_rows(self, asked: dict[str, Any]) -> None:
            with api.lock:
                api.requests.append((time.monotonic(), self.path))
                fault = api.faults.pop(0) if api.faults else ""
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()} | asked
            if api.token and self.headers.get("Authorization") != f"Bearer {api.token}":
                return self.answer(401, b"{}")
            if fault.isdigit():
                return self.answer(int(fault), b"no")
            if fault.startswith("after:"):
                return self.answer(429, b"", {"Retry-After": fault[6:]})
            if fault == "date":
                now = datetime.fromtimestamp(time.time() + 2, timezone.utc)
                return self.answer(503, b"", {"Retry-After": format_datetime(now, usegmt=True)})
            if fault == "moved":
                return self.answer(302, b"", {"Location": "http://example.com/"})
            if fault == "bomb":
                body = gzip.compress(bytes(50_000_000))
                return self.answer(200, body, {"Content-Encoding": "gzip"})
            with api.lock:
                if not fault:
                    api.good += 1
                    if api.before:
                        api.before(api.good)
                content, headers = api.page(parts.path.strip("/"), query)
            if fault == "errors":  # and some of the records
                content["errors"] = [{"message": "one shard is away"}]
                content["data"]["rows"] = content["data"]["rows"][::2]
            body = json.dumps(content).encode()
            if fault == "malformed":
                body = body[:-1] + b",,"
            elif fault == "gzip":
                body, headers = gzip.compress(body), headers | {"Content-Encoding": "gzip"}
            elif fault == "other-host":
                headers = {"Link": '<http://127.0.0.2:1/link>; rel="next"'}
            if fault == "cut":
                self.answer(200, body, headers, send=len(body) // 2)
                self.close_connection = True
                return None
            if fault == "drop":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return None
            if fault == "endless":
                self.answer(200, b"", {"Content-Length": str(10**12)}, send=0)
                try:
                    while True:
                        self.wfile.write(bytes(100_000))
                except OSError:
                    self.close_connection = True
                    return None
            return self.answer(200, body, headers)

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if self.headers["Content-Type"] == "application/json":
                body = json.loads(sent)
                assert body.pop("query") == "rows"
                return self.list_rows(body["page"])
            with api.lock:
                fault = api.faults.pop(0) if api.faults else ""
            if fault.isdigit():
                return self.answer(int(fault), b"no")
            form = {name: values[0] for name, values in parse_qs(sent).items()}
            if form != api.form or self.headers.get("Authorization") != api.basic:
                return self.answer(401, b'{"error": "invalid_client"}')
            with api.lock:
                api.issued += 1
                api.token = f"token-{api.issued}"
            content = {"access_token": api.token, "token_type": "Bearer", "expires_in": api.life}
            return self.answer(200, json.dumps(content).encode())

        def answer(
            self,
            status: int,
            body: bytes,
            headers: dict[str, str] | None = None,
            send: int | None = None,
        ) -> None:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[:send])

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except (OSError, ValueError):  # the client is gone, or the fault closed the file
                self.close_connection = True

        def log_message(self, *_arguments: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(api: Api) -> Iterator[Api]:
    """The API on a port of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    server.daemon_threads = True
    api.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
