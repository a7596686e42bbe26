"""Webhooks to bronze: `lakebed webhook`.

An answer of 2xx means that the message is in the lake, and committed. Messages of all requests that
wait are written together. The sender's message id makes a repeated one harmless: it is looked up in
the lake before the write, and of two servers that write at once one is fenced and looks again.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from lakebed.errors import LakeLocked, UserError
from lakebed.ingest.config import Limits, limits_of, mapping, named, only, render, to_entity
from lakebed.ingest.faults import Faults
from lakebed.ingest.patience import TryLater
from lakebed.ingest.records import Entity, Record, judge
from lakebed.ingest.signatures import STYLES, Message, Style, is_id
from lakebed.ingest.sink import Fenced, Place
from lakebed.ingest.sinks import BatchSink
from lakebed.ingest.tables import DLQ, utc_now

PATTERNS = ["pat-webhook-sink", "pat-backpressure-strategies"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Endpoint:
    """Where one sender posts to. Several secrets: the old one still holds while it is changed."""

    entity: Entity
    secrets: tuple[str, ...] = field(repr=False)
    style: Style = STYLES["standard"]

    def message(self, body: bytes, headers: dict[str, str]) -> Message | None:
        """Id and time of the message, when a secret signed it; with a time five minutes from now
        at most, where the style has one."""
        return self.style.message(self.secrets, body, headers)


@dataclass(frozen=True)
class WebhookConfig:
    """Limits: bytes of one body, and of a device's batch unpacked; requests and bytes that may wait
    for the lake; seconds a body may take to arrive; seconds to wait for a busy lake; days that a
    message id is remembered."""

    name: str
    endpoints: dict[str, Endpoint]
    max_bytes: int = 1024 * 1024
    unpacked_bytes: int = 8 * 1024 * 1024
    waiting: int = 1000
    waiting_bytes: int = 64 * 1024 * 1024
    body_seconds: float = 10
    patience: float = 5
    remember_days: int = 7
    limits: Limits = field(default_factory=lambda: Limits(1000, 16 * 1024 * 1024, 0.05))


def read_webhooks(file: Path) -> WebhookConfig:
    """Read the file of `lakebed webhook`. Raises UserError for everything that is not right."""
    where = str(file)
    content = mapping(render(file), where)
    numbers = [
        *("max_bytes", "waiting", "waiting_bytes", "body_seconds", "patience", "remember_days"),
        "unpacked_bytes",
    ]
    only(content, {"name", "endpoints", "batch", *numbers}, where)
    endpoints = {}
    for path, settings in mapping(content.get("endpoints"), f"{where}: endpoints").items():
        place = f"{where}: endpoints: {path}"
        settings = mapping(settings, place)
        secrets = settings.pop("secret", None) or []
        secrets = [secrets] if isinstance(secrets, str) else list(secrets)
        named_style = settings.pop("signature", "standard")
        if named_style not in STYLES:
            raise UserError(f"{place}: signature is {', '.join(STYLES)}, not {named_style!r}.")
        style = STYLES[named_style]
        for secret in secrets:
            try:
                style.check(secret)
            except Exception:
                what = "base64, such as whsec_..." if named_style == "standard" else "a text"
                raise UserError(f"{place}: secret is not {what}.") from None
        if not secrets:
            raise UserError(
                f"{place}: needs a secret from the environment, e.g. "
                "secret: \"{{ env_var('ORDERS_SECRET') }}\"."
            )
        entity = to_entity(settings, place, file.parent)
        endpoints[named(path, place)] = Endpoint(entity, tuple(secrets), style)
    given = {}
    for number in numbers:
        if number in content:
            value = content[number]
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise UserError(f"{where}: {number} is a number above 0, not {value!r}.")
            given[number] = value
    default = WebhookConfig("", {}).limits
    return WebhookConfig(
        named(content.get("name", file.stem), f"{where}: name"),
        endpoints,
        limits=limits_of(content.get("batch"), where, default),
        **given,
    )


#: What became of a message that the lake has not: it is busy, or cannot be written. Not exceptions:
#: a traceback holds the frames that hold the message that holds it, until the collector comes by.
BUSY, FAILED = "busy", "failed"


@dataclass
class Waiting:
    """A message on its way into the lake, and who waits for it."""

    endpoint: str
    id: str
    record: Record
    answer: asyncio.Future[str]
    loop: asyncio.AbstractEventLoop

    def resolve(self, result: str) -> None:
        def set_it() -> None:
            if not self.answer.done():
                self.answer.set_result(result)

        self.loop.call_soon_threadsafe(set_it)

    async def result(self) -> str:
        """What became of it, when it is committed. Raises Refused."""
        result = await self.answer
        if result == BUSY:
            raise Refused(503, "the lake is busy", 5)
        if result == FAILED:
            raise Refused(503, "the lake cannot be written", 30)
        return result


class Writer:
    """The one thread that writes: collects what waits, and commits it together."""

    def __init__(self, config: WebhookConfig, sink: BatchSink, say: Say, faults: Faults) -> None:
        self.config, self.sink, self.say, self.faults = config, sink, say, faults
        self._queue: queue.Queue[Waiting | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, name="lakebed-writer")
        self._positions: dict[Place, int] = {}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    def put(self, waiting: Waiting) -> None:
        self._queue.put(waiting)

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = self._collect(first)
            try:
                self.faults.reach("received")
                results = self._write(batch)
                self.faults.reach("acknowledged")
            except Exception as error:
                # Whoever sent it sends it again; nothing is in the lake, or the id is.
                known = isinstance(error, UserError | TryLater)
                self.say(str(error) if known else repr(error))
                for each in batch:
                    each.resolve(BUSY if isinstance(error, LakeLocked | TryLater) else FAILED)
            else:
                for each in batch:
                    each.resolve(results[each.endpoint, each.id])
            if ended:
                return

    def _collect(self, first: Waiting) -> tuple[list[Waiting], bool]:
        limits, batch, size = self.config.limits, [first], first.record.size
        until = time.monotonic() + limits.age
        while len(batch) < limits.rows and size < limits.bytes:
            try:
                each = self._queue.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if each is None:
                return batch, True
            batch.append(each)
            size += each.record.size
        return batch, False

    def _write(self, batch: Sequence[Waiting]) -> dict[tuple[str, str], str]:
        """What became of each message: stored, duplicate or dlq. Raises when none is stored."""
        while True:
            results = self._held(batch)
            next_offset: dict[str, int] = {}
            records: list[tuple[Entity, Record]] = []
            for each in batch:
                if (each.endpoint, each.id) in results:
                    continue
                results[each.endpoint, each.id] = "stored"
                offset = next_offset.setdefault(
                    each.endpoint, self._positions.get((each.endpoint, 0), 0)
                )
                next_offset[each.endpoint] = offset + 1
                entity = self.config.endpoints[each.endpoint].entity
                records.append((entity, each.record._replace(offset=offset)))
            good, rejected = judge(records)
            for refused in rejected:
                results[refused.record.topic, (refused.record.key or b"").decode()] = "dlq"
            moves = {
                (name, 0): (self._positions.get((name, 0)), offset)
                for name, offset in next_offset.items()
            }
            try:
                if records:
                    self.sink.write(good, rejected, moves)
            except Fenced:
                continue  # another server has written: what is held may be another
            return results

    def _held(self, batch: Sequence[Waiting]) -> dict[tuple[str, str], str]:
        """Reads the positions; returns which messages the lake has already."""
        stream = self.config.name
        since = utc_now() - timedelta(days=self.config.remember_days)

        def ask() -> dict[tuple[str, str], str]:
            found = {}
            with self.sink.attached():
                self._positions = self.sink.positions()
                for name in {each.endpoint for each in batch}:
                    table = self.config.endpoints[name].entity.table
                    ids = [each.id for each in batch if each.endpoint == name]
                    rows = self.sink.query(
                        f"select _key from bronze.{table}"
                        " where ingested_at > ? and _topic = ? and array_contains(?, _key)",
                        [since, name, ids],
                    )
                    refused = self.sink.query(
                        f"select record_key from {DLQ} where first_seen > ? and stream = ?"
                        " and topic = ? and array_contains(?, record_key)",
                        [since, stream, name, [each.encode() for each in ids]],
                    )
                    known = [key for (key,) in rows] + [key.decode() for (key,) in refused]
                    found.update({(name, key): "duplicate" for key in known})
            return found

        return self.sink.patience.persist(ask)


class Refused(Exception):
    """An answer that is not 2xx."""

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status, self.retry_after = status, retry_after


#: Takes one request of an endpoint: answers when it is committed, or raises Refused.
Take = Callable[[str, Endpoint, Request], Awaitable[Response]]


def make_app(
    config: WebhookConfig, writer: Writer, path: str = "webhooks", take: Take | None = None
) -> FastAPI:
    """The server: POST /<path>/<endpoint>, GET /health. `take` takes what is no message."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        writer.start()
        yield
        await asyncio.to_thread(writer.stop)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    held = {"requests": 0, "bytes": 0}

    @app.get("/health")
    async def health() -> dict[str, int]:
        return {"waiting": held["requests"], "waiting_bytes": held["bytes"]}

    @app.post(f"/{path}/{{name}}")
    async def receive(name: str, request: Request) -> Response:
        size = 0
        try:
            endpoint = config.endpoints.get(name)
            if endpoint is None:
                raise Refused(404, "no such endpoint")
            expected = _expected_size(request, config.max_bytes)
            if (
                held["requests"] >= config.waiting
                or held["bytes"] + expected > config.waiting_bytes
            ):
                raise Refused(429, "too many messages wait for the lake", 1)
            size = expected
            held["requests"] += 1
            held["bytes"] += size
            try:
                return await (take or _store)(name, endpoint, request)
            finally:
                held["requests"] -= 1
                held["bytes"] -= size
        except Refused as refused:
            headers = {"Retry-After": str(refused.retry_after)} if refused.retry_after else {}
            # A body that was not read must not be taken for the next request.
            headers["Connection"] = "close"
            return JSONResponse({"error": str(refused)}, refused.status, headers)

    async def _store(name: str, endpoint: Endpoint, request: Request) -> Response:
        body = await read_body(request, config)
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            raise Refused(400, "the body is not UTF-8") from None
        headers = {key.lower(): value for key, value in request.headers.items()}
        message = endpoint.message(body, headers)
        if message is None:
            raise Refused(401, "the signature or its time does not hold")
        if not is_id(message.id):
            raise Refused(400, "the id of the message is not a short text")
        kept = (*endpoint.style.kept, "content-type", "user-agent")
        record = Record(
            name,
            0,
            0,
            message.id.encode(),
            body,
            [(key, headers[key].encode()) for key in kept if key in headers],
            None if message.sent_at is None else int(message.sent_at * 1000),
        )
        loop = asyncio.get_running_loop()
        waiting = Waiting(name, message.id, record, loop.create_future(), loop)
        writer.put(waiting)
        return JSONResponse({"status": await waiting.result()})

    return app


def _expected_size(request: Request, most: int) -> int:
    """Bytes that the body may have. Raises Refused when that is too much, or compressed: nothing
    is decompressed here, so nothing small can become large."""
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Refused(415, "send the body without content-encoding")
    length = request.headers.get("content-length")
    if length is None:
        return most
    if not length.isdigit():
        raise Refused(400, "content-length is not a number")
    if int(length) > most:
        raise Refused(413, f"the body is longer than {most} bytes")
    return int(length)


async def read_body(request: Request, config: WebhookConfig) -> bytes:
    """A request's body, bounded in bytes and seconds. Raises Refused."""
    body = bytearray()

    async def read() -> None:
        async for chunk in request.stream():
            body.extend(chunk)
            if len(body) > config.max_bytes:
                raise Refused(413, f"the body is longer than {config.max_bytes} bytes")

    try:
        await asyncio.wait_for(read(), config.body_seconds)
    except asyncio.TimeoutError:
        raise Refused(408, "the body took too long") from None
    except ClientDisconnect:
        raise Refused(400, "the body ended early") from None
    return bytes(body)
