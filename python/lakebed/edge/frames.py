"""How a record looks on the device's disk and on the wire: the same bytes in both places.

A frame is length, time and link, then the record. The link is a hash of the record, its sequence,
its time and the link before, so it is the checksum of one record and of the whole history up to it:
two devices that took the same name, or a disk that came back from a copy, end in different links.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

VERSION = 1
LINK = 16
#: The link before the first record of all.
NO_LINK = bytes(LINK)
#: Bytes of the record, milliseconds since 1970 by the device's clock, link.
HEAD = struct.Struct(f">Iq{LINK}s")
DEVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
EPOCH = re.compile(r"[0-9a-f]{16}")
_NUMBERED = struct.Struct(">Qq")
_LONGEST_HEADER = 4096


class Frame(NamedTuple):
    """One record as it lies in a segment or a batch; `start` and `end` are places in its bytes.

    `before` is the link that stands before it. `good`: its bytes are those that were written.
    """

    sequence: int
    time: int
    before: bytes
    link: bytes
    start: int
    end: int
    good: bool

    def record(self, data: bytes) -> bytes:
        """The record itself, of the bytes that the frame was found in."""
        return data[self.start + HEAD.size : self.end]


def link(before: bytes, sequence: int, time: int, record: bytes) -> bytes:
    """The link of a record."""
    digest = hashlib.blake2b(before, digest_size=LINK)
    digest.update(_NUMBERED.pack(sequence, time))
    digest.update(record)
    return digest.digest()


def frame(before: bytes, sequence: int, time: int, record: bytes) -> tuple[bytes, bytes]:
    """A record's frame, and its link."""
    own = link(before, sequence, time, record)
    return HEAD.pack(len(record), time, own) + record, own


def frames(data: bytes, at: int, sequence: int, before: bytes) -> Iterator[Frame]:
    """The frames of `data` from place `at` on, damaged ones too, up to one that is cut off.

    A damaged record does not take those behind it along: each is checked against the link that
    stands before it.
    """
    while at + HEAD.size <= len(data):
        length, time, own = HEAD.unpack_from(data, at)
        end = at + HEAD.size + length
        if end > len(data):
            return
        good = own == link(before, sequence, time, data[at + HEAD.size : end])
        yield Frame(sequence, time, before, own, at, end, good)
        before, at, sequence = own, end, sequence + 1


@dataclass(frozen=True)
class Batch:
    """Records of one device in one epoch, without a hole, and what stands around them.

    `start`: the epoch's first sequence. `missing_from`: the device has nothing of
    [missing_from, first) any more. `before`: the link before `first`. `sent_at`: the device's clock
    when it was sent, milliseconds.
    """

    device: str
    epoch: str
    start: int
    missing_from: int
    first: int
    before: bytes
    sent_at: int
    data: bytes
    end: int

    def frames(self) -> Iterator[Frame]:
        """Its records."""
        return frames(self.data, 0, self.first, self.before)


class Unreadable(ValueError):
    """The bytes are not a batch; the message says why."""


class TooLong(Unreadable):
    """The batch is longer, unpacked, than it may be."""


def pack(batch: Batch) -> bytes:
    """A batch as it is sent: a line of JSON and its frames, in gzip."""
    header = {
        "version": VERSION,
        "device": batch.device,
        "epoch": batch.epoch,
        "start": batch.start,
        "missing_from": batch.missing_from,
        "first": batch.first,
        "before": batch.before.hex(),
        "sent_at": batch.sent_at,
        "count": batch.end - batch.first,
    }
    packer = zlib.compressobj(6, zlib.DEFLATED, 31)
    text = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    return packer.compress(text) + packer.compress(batch.data) + packer.flush()


def unpack(body: bytes, longest: int) -> Batch:
    """The batch of `pack`, each record checked. Never makes more than `longest` bytes of it.

    Raises TooLong and Unreadable.
    """
    unpacker = zlib.decompressobj(31)
    try:
        data = unpacker.decompress(body, longest + 1)
    except zlib.error as error:
        raise Unreadable(f"not gzip ({error})") from None
    if len(data) > longest:
        raise TooLong(f"the batch is longer than {longest} bytes")
    if not unpacker.eof or unpacker.unused_data:
        raise Unreadable("the gzip ends too early, or something follows it")
    line, _, records = data.partition(b"\n")
    if len(line) > _LONGEST_HEADER:
        raise Unreadable("no header")
    try:
        header: Any = json.loads(line)
        if header["version"] != VERSION:
            raise Unreadable(f"version {header['version']!r} is not known; this is {VERSION}")
        for name in ("start", "missing_from", "first", "sent_at", "count"):
            if type(header[name]) is not int or abs(header[name]) >= 1 << 63:
                raise Unreadable(f"{name} is not a whole number")
        device, epoch = header["device"], header["epoch"]
        if not (DEVICE.fullmatch(device) and EPOCH.fullmatch(epoch)):
            raise Unreadable("no device or no epoch")
        before = bytes.fromhex(header["before"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        if isinstance(error, Unreadable):
            raise
        raise Unreadable("the header is not one") from None
    first, count = header["first"], header["count"]
    if not 0 <= header["start"] <= header["missing_from"] <= first or len(before) != LINK:
        raise Unreadable("the header contradicts itself")
    batch = Batch(
        device,
        epoch,
        header["start"],
        header["missing_from"],
        first,
        before,
        header["sent_at"],
        records,
        first + count,
    )
    end = held = 0
    for each in batch.frames():
        if not each.good:
            raise Unreadable(f"record {each.sequence} is damaged")
        end, held = each.end, held + 1
    if held != count or end != len(records) or not held:
        raise Unreadable(f"{held} records, of which {count} were announced")
    return batch
