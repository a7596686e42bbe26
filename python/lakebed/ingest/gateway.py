"""Batches of devices to bronze: `lakebed gateway`. The other side is `lakebed.edge`.

A server as that of webhooks, with its limits and its writer. A batch's records, and how far its
device is now, are one transaction of the lake, and an answer of 2xx means that it is committed. A
batch that comes again, or overlaps another, is stored once: the position says what is there. A hole
is accepted only where the device says that it has nothing of it any more; it is counted.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse

from lakebed.edge.frames import Batch, TooLong, Unreadable, unpack
from lakebed.edge.post import CONTENT_TYPE, device_secret, key_of, signature
from lakebed.ingest.records import Entity, Record, judge
from lakebed.ingest.sink import Fenced, Place
from lakebed.ingest.webhook import (
    Endpoint,
    Refused,
    Take,
    Waiting,
    WebhookConfig,
    Writer,
    read_body,
)

PATTERNS = ["pat-edge-batching"]

PATH = "edge"
#: A signature's time may be off by so many seconds, as for webhooks.
_TOLERANCE = 300


@dataclass(frozen=True)
class Held:
    """What the lake has of a device's epoch: all before `next`; the link of the record before it;
    records that the device gave up."""

    next: int
    link: bytes | None
    lost: int = 0

    @property
    def state(self) -> str:
        """As it stands in the position table, beside the position."""
        return json.dumps({"link": (self.link or b"").hex(), "lost": self.lost})

    @staticmethod
    def read(position: int, state: str) -> Held:
        """From the position table."""
        values = json.loads(state)
        return Held(position, bytes.fromhex(values["link"]), values["lost"])


@dataclass(frozen=True)
class Verdict:
    """What is to be done with a batch: store it from `first` on, when `refused` is empty."""

    held: Held
    first: int
    lost: int = 0
    refused: str = ""


def settle(batch: Batch, held: Held | None) -> Verdict:
    """Compare a batch with what the lake has of its epoch (None: nothing)."""
    held = held or Held(batch.start, None)
    if batch.first > held.next:
        if held.next < batch.missing_from:
            return Verdict(held, 0, refused=f"records from {held.next} on are missing")
        lost = batch.first - held.next
    else:
        lost = 0
        links = {batch.first: batch.before}
        links |= {each.sequence + 1: each.link for each in batch.frames()}
        own = links.get(held.next)
        if own is not None and held.link is not None and own != held.link:
            return Verdict(held, 0, refused="this is another history of the device")
    if batch.end <= held.next:
        return Verdict(held, batch.end)
    *_, last = batch.frames()
    return Verdict(Held(batch.end, last.link, held.lost + lost), max(batch.first, held.next), lost)


@dataclass
class _WaitingBatch(Waiting):
    """A batch on its way into the lake."""

    batch: Batch
    clock_offset: int

    @property
    def place(self) -> Place:
        """Where its position is. A device's epochs are as different as devices are."""
        return f"{self.endpoint}/{self.batch.device}/{self.batch.epoch}", 0

    def records(self, verdict: Verdict) -> Iterator[Record]:
        """What is new in it. `clock-offset-ms` is what must be added to the device's times."""
        headers: list[tuple[str, bytes | None]] = [
            ("device", self.batch.device.encode()),
            ("epoch", self.batch.epoch.encode()),
            ("clock-offset-ms", str(self.clock_offset).encode()),
        ]
        first: list[tuple[str, bytes | None]] = []
        if verdict.lost:
            first = [("lost-before", str(verdict.lost).encode())]
        for each in self.batch.frames():
            if each.sequence >= verdict.first:
                yield Record(
                    *self.place,
                    each.sequence,
                    self.batch.device.encode(),
                    each.record(self.batch.data),
                    headers + first,
                    each.time,
                )
                first = []


class GatewayWriter(Writer):
    """The one thread that writes: batches that wait are committed together."""

    def _write(self, batch: Sequence[Waiting]) -> dict[tuple[str, str], str]:
        """The answer to each batch, as JSON. Raises when none is stored."""
        while True:
            held = self._read_held()
            positions: dict[Place, int | None] = {}
            states: dict[Place, str] = {}
            moves: dict[Place, tuple[int | None, int]] = {}
            records: list[tuple[Entity, Record]] = []
            answers: dict[tuple[str, str], dict[str, Any]] = {}
            ranges: list[tuple[Place, int, int, dict[str, Any]]] = []
            for each in batch:
                assert isinstance(each, _WaitingBatch)
                place = each.place
                before = held.get(place)
                verdict = settle(each.batch, before)
                answer = answers[each.endpoint, each.id] = {
                    "next": verdict.held.next,
                    "link": verdict.held.link.hex() if verdict.held.link else None,
                }
                if verdict.refused:
                    answer |= {"error": verdict.refused}
                    continue
                first, end = verdict.first, each.batch.end
                answer |= {"stored": end - first, "dlq": 0, "lost": verdict.lost}
                answer["duplicates"] = first - each.batch.first
                if first == end:
                    continue
                positions.setdefault(place, before.next if before else None)
                held[place] = verdict.held
                moves[place] = (positions[place], end)
                states[place] = verdict.held.state
                entity = self.config.endpoints[each.endpoint].entity
                records += [(entity, record) for record in each.records(verdict)]
                ranges.append((place, first, end, answer))
            good, rejected = judge(records)
            for refused in rejected:
                offset = refused.record.offset
                for place, first, end, answer in ranges:
                    if place[0] == refused.record.topic and first <= offset < end:
                        answer["dlq"] += 1
                        answer["stored"] -= 1
            try:
                if moves:
                    self.sink.write(good, rejected, moves, states)
            except Fenced:
                continue  # another gateway has written: what is held may be another
            for place, _, _, answer in ranges:
                if answer["lost"]:
                    self.say(f"{place[0]}: the device gave up {answer['lost']:,} records.")
            return {key: json.dumps(answer) for key, answer in answers.items()}

    def _read_held(self) -> dict[Place, Held]:
        states = self.sink.patience.persist(self.sink.states)
        return {place: Held.read(*state) for place, state in states.items()}


class _Room:
    """Bytes that batches may be unpacked into, of all requests together."""

    def __init__(self, most: int) -> None:
        self._left = most

    @contextmanager
    def for_(self, size: int) -> Iterator[Callable[[int], None]]:
        """Take so much; what is called with the size that it really is gives the rest back. Raises
        Refused."""
        if size > self._left:
            raise Refused(429, "too many batches wait for the lake", 1)
        self._left -= size
        taken = size

        def shrink(real: int) -> None:
            nonlocal taken
            self._left += taken - real
            taken = real

        try:
            yield shrink
        finally:
            self._left += taken


def taker(config: WebhookConfig, writer: GatewayWriter) -> Take:
    """What the server does with a request: `POST /edge/<endpoint>`."""
    unpacked = int(config.unpacked_bytes)
    room = _Room(max(unpacked, int(config.waiting_bytes)))

    async def take(name: str, endpoint: Endpoint, request: Request) -> Response:
        headers = {key.lower(): value for key, value in request.headers.items()}
        if headers.get("content-type") != CONTENT_TYPE:
            raise Refused(415, f"send batches of lakebed.edge ({CONTENT_TYPE})")
        body = await read_body(request, config)
        received = int(time.time() * 1000)
        device = headers.get("lakebed-device", "")
        # Before it is unpacked: a stranger's bomb is not even touched.
        if not signed(endpoint, device, headers, body):
            raise Refused(401, "the signature or its time does not hold")
        with room.for_(unpacked) as shrink:
            try:
                batch = await asyncio.to_thread(unpack, body, unpacked)
            except TooLong as error:
                raise Refused(413, str(error)) from None
            except Unreadable as error:
                raise Refused(400, str(error)) from None
            if batch.device != device:
                raise Refused(401, "the batch is of another device")
            shrink(len(batch.data))
            message = str(uuid.uuid4())
            record = Record(name, 0, 0, None, batch.data, [], None)
            loop = asyncio.get_running_loop()
            offset = received - batch.sent_at
            answer = loop.create_future()
            waiting = _WaitingBatch(name, message, record, answer, loop, batch, offset)
            writer.put(waiting)
            result = json.loads(await waiting.result())
        return JSONResponse(result, 409 if "error" in result else 200)

    return take


def signed(endpoint: Endpoint, device: str, headers: dict[str, str], body: bytes) -> bool:
    """Whether a secret of the endpoint, or the one it gives this device, made the signature, and
    its time is within five minutes of now."""
    message_id, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (moment.isascii() and moment.isdecimal() and len(moment) <= 12):
        return False
    if abs(int(moment) - time.time()) > _TOLERANCE:
        return False
    given = headers.get("webhook-signature", "").encode("latin-1", "replace").split(b" ")
    for secret in endpoint.secrets:
        for one in (secret, device_secret(secret, device)):
            own = signature(key_of(one), message_id, int(moment), body).encode()
            if any(hmac.compare_digest(own, each) for each in given):
                return True
    return False
