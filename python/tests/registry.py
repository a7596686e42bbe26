"""A schema registry for tests: the documented REST interface, as far as a stream needs it.

It is no Confluent registry, which is not among our packages. What it answers is what that one's
documentation says; whether two Avro schemas are compatible is decided by Apache Avro's own
resolution. Other kinds of schemas are stored, and not compared.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import parse

#: What a registry says of Protobuf unless it is asked for the descriptor.
TEXT = 'syntax = "proto3";'


class _Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = (code // 100 if code > 999 else code), code


@dataclass
class SchemaRegistry:
    """`faults` are used up, one a request: a status, `drop` or `html`. `levels` by subject, "" for
    all. `auth` is `user:password`."""

    faults: list[str] = field(default_factory=list)
    auth: str | None = None
    levels: dict[str, str] = field(default_factory=lambda: {"": "BACKWARD"})
    schemas: list[dict[str, Any]] = field(default_factory=list)  # id is the place, from 1
    subjects: dict[str, list[int]] = field(default_factory=dict)  # ids of versions, from 1
    requests: list[str] = field(default_factory=list)
    connections: list[socket.socket] = field(default_factory=list)
    port: int = 0
    server: ThreadingHTTPServer | None = None
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Listen; on the same port as before when it was stopped."""
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(
            target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def stop(self) -> None:
        if self.server:
            self.server.shutdown()
            self.server.server_close()
        self.server = None
        with self.lock:  # clients keep their connections, and are answered there
            for connection in self.connections:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
            self.connections.clear()

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Any:
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            return self._schema(int(found[1]), query)
        if found := re.fullmatch(r"/schemas/guids/(.+)", path):
            for number, schema in enumerate(self.schemas, 1):
                if schema["guid"] == found[1]:
                    return self._schema(number, query)
            raise _Refused(40403, "Schema not found")
        if found := re.fullmatch(r"/schemas/ids/(\d+)/versions", path):
            self._schema(int(found[1]), query)
            return [
                {"subject": subject, "version": version}
                for subject, ids in self.subjects.items()
                for version, number in enumerate(ids, 1)
                if number == int(found[1])
            ]
        if found := re.fullmatch(r"/subjects/(.+)/versions/(.+)", path):
            return self._version(found[1], found[2], query)
        if found := re.fullmatch(r"/subjects/(.+)/versions", path):
            if method == "GET":
                return list(range(1, len(self._ids(found[1])) + 1))
            return self._register(found[1], body)
        if path == "/config":
            return {"compatibilityLevel": self.levels[""]}
        if found := re.fullmatch(r"/config/(.+)", path):
            if found[1] not in self.levels:
                raise _Refused(40408, "Subject does not have subject-level compatibility")
            return {"compatibilityLevel": self.levels[found[1]]}
        if found := re.fullmatch(r"/compatibility/subjects/(.+)/versions/(.+)", path):
            held = self._version(found[1], found[2], {})
            return {"is_compatible": self._compatible(found[1], held, body)}
        raise _Refused(404, "HTTP 404 Not Found")

    def _register(self, subject: str, body: dict[str, Any]) -> dict[str, Any]:
        schema = {
            "schemaType": body.get("schemaType", "AVRO"),
            "schema": body["schema"],
            "references": body.get("references") or [],
        }
        schema["guid"] = str(uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(schema)))
        if schema not in self.schemas:
            self.schemas.append(schema)
        number = self.schemas.index(schema) + 1
        ids = self.subjects.setdefault(subject, [])
        if number not in ids:
            ids.append(number)
        return {"id": number, "version": ids.index(number) + 1, **schema}

    def _ids(self, subject: str) -> list[int]:
        if subject not in self.subjects:
            raise _Refused(40401, f"Subject '{subject}' not found.")
        return self.subjects[subject]

    def _schema(self, number: int, query: dict[str, str]) -> dict[str, Any]:
        if not 0 < number <= len(self.schemas):
            raise _Refused(40403, f"Schema {number} not found")
        schema = dict(self.schemas[number - 1])
        if schema["schemaType"] == "PROTOBUF" and query.get("format") != "serialized":
            schema["schema"] = TEXT
        return schema

    def _version(self, subject: str, version: str, query: dict[str, str]) -> dict[str, Any]:
        ids = self._ids(subject)
        number = len(ids) if version == "latest" else int(version)
        if not 0 < number <= len(ids):
            raise _Refused(40402, "Version not found.")
        schema = self._schema(ids[number - 1], query)
        return {"subject": subject, "version": number, "id": ids[number - 1], **schema}

    def _compatible(self, subject: str, held: dict[str, Any], given: dict[str, Any]) -> bool:
        level = self.levels.get(subject, self.levels[""]).removesuffix("_TRANSITIVE")
        if level == "NONE" or held["schemaType"] != "AVRO":
            return True
        old, new = parse(held["schema"]), parse(given["schema"])

        def reads(reader: Any, writer: Any) -> bool:
            found = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
            return bool(found.compatibility is SchemaCompatibilityType.compatible)

        return (level == "FORWARD" or reads(new, old)) and (level == "BACKWARD" or reads(old, new))


def _handler(registry: SchemaRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # head and body in one packet

        def setup(self) -> None:
            super().setup()
            with registry.lock:
                registry.connections.append(self.connection)

        def do(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            with registry.lock:
                registry.requests.append(f"{self.command} {self.path}")
                fault = registry.faults.pop(0) if registry.faults else ""
                if fault == "drop":
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                if fault == "html":
                    self.reply(200, b"<html>welcome to the proxy</html>")
                    return
                wanted = registry.auth and base64.b64encode(registry.auth.encode()).decode()
                try:
                    if wanted and self.headers.get("Authorization") != f"Basic {wanted}":
                        raise _Refused(401, "Unauthorized")
                    if fault:
                        raise _Refused(int(fault), "out of order")
                    found = registry.answer(self.command, unquote(parts.path), query, body)
                    self.reply(200, json.dumps(found).encode())
                except _Refused as error:
                    answer = {"error_code": error.code, "message": str(error)}
                    self.reply(error.status, json.dumps(answer).encode())

        do_GET = do_POST = do

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_arguments: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(**settings: Any) -> Iterator[SchemaRegistry]:
    """The registry on a port of its own."""
    registry = SchemaRegistry(**settings)
    registry.start()
    try:
        yield registry
    finally:
        registry.stop()
