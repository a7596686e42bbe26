"""The device's disk: segments that only grow, and the position up to which the gateway has it all.

    lock                     held by the one process that has the folder
    position                 epoch and position, twice (the newer one that is whole counts)
    00000000000000000000.seg frames, from the sequence that is its name on

Nothing is written in place but the position, whose two halves are written in turn. So the power may
go at any moment: a half-written record at the end is cut off when the folder is opened, and no
number is given twice that a gateway may have seen, because only what is synced is sent.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

from .frames import HEAD, LINK, NO_LINK, Batch, Frame, frame, frames

_MAGIC = b"LAKEBED1"
_HEADER = len(_MAGIC) + LINK
_SLOT = 512
_SUFFIX = ".seg"


class EdgeError(Exception):
    """What a person or a program can do something about; the message says what."""


class EdgeFull(EdgeError):
    """There is no room for the record; it was not taken, and nothing else was lost."""


class EdgeBusy(EdgeError):
    """Another process has the folder."""


@dataclass(frozen=True)
class Position:
    """Where the device is: the gateway has all of [start, acked) in `epoch`.

    `link` is that of the record before `acked`. `turn` counts what was written.
    """

    device: str
    epoch: str
    start: int
    acked: int
    link: bytes
    turn: int = 0


@dataclass
class _Segment:
    """A file of frames: [first, end), `size` bytes; links before the first and of the last."""

    path: Path
    first: int
    end: int
    size: int
    before: bytes
    link: bytes


class _Cursor(NamedTuple):
    """Where the last batch ended: what need not be read again."""

    segment: int
    sequence: int
    place: int
    link: bytes


class Store:
    """One device's folder. Not for several threads at once: the client sees to that.

    Raises EdgeBusy when another process has it, EdgeError for a folder of another device.
    """

    def __init__(
        self,
        folder: Path,
        device: str,
        max_disk: int,
        segment_bytes: int,
        drop_oldest: bool = False,
        reach: Callable[[str], None] = lambda _point: None,
    ) -> None:
        self.folder, self.max_disk, self.segment_bytes = folder, max_disk, segment_bytes
        self.drop_oldest, self.reach = drop_oldest, reach
        #: Records that were given up in this process: no room, or damaged on disk.
        self.dropped = 0
        self._synced = 0
        self._broken = False
        self._file: int | None = None
        self._position_file: int | None = None
        self._cursor: _Cursor | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / "lock", os.O_CREAT | os.O_RDWR, 0o600)
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise EdgeBusy(
                    f"{folder} is in use by another process: one process sends for a device; give "
                    "this one a folder of its own."
                ) from None
            self._segments = self._open_segments()
            self._open_position(device)
            self._open_last()
            if self._segments and self._segments[-1].end <= self.position.acked:
                self._forget(all_=True)  # the next record has the number `acked`
            self._synced = self.end
        except BaseException:
            self.close()
            raise

    # What there is

    @property
    def end(self) -> int:
        """The sequence of the next record."""
        return max(self._segments[-1].end if self._segments else 0, self.position.acked)

    @property
    def waiting(self) -> int:
        """Records that the gateway has not confirmed."""
        return self.end - max(self.position.acked, self._oldest)

    @property
    def unsynced(self) -> bool:
        """Whether the power may still take a record."""
        return self._synced < self.end

    @property
    def disk(self) -> int:
        """Bytes of the segments."""
        return sum(segment.size for segment in self._segments)

    @property
    def _oldest(self) -> int:
        return self._segments[0].first if self._segments else self.position.acked

    # Taking records

    def append(self, record: bytes, time: int) -> int:
        """Write a record; its sequence. It survives this process, and after `sync` the power.

        Raises EdgeFull, and nothing is changed then.
        """
        size = HEAD.size + len(record)
        while True:
            try:
                return self._append(record, time, size)
            except OSError as error:
                reason = f"The disk is full or broken ({error.strerror})"
            except EdgeFull as error:
                reason = str(error)
            held = self.disk
            self._forget(all_=True)
            if self.disk < held:
                continue
            if not (self.drop_oldest and self._drop()):
                raise EdgeFull(
                    f"{reason}: the record was not taken. {self.waiting} records wait for the "
                    "gateway."
                ) from None

    def _append(self, record: bytes, time: int, size: int) -> int:
        if self.disk + size + _HEADER > self.max_disk:
            raise EdgeFull(f"{self.folder} holds max_disk ({self.max_disk}) bytes")
        active = self._active(size)
        data, own = frame(active.link, active.end, time, record)
        assert self._file is not None
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            os.ftruncate(self._file, active.size)
            raise
        active.size, active.end, active.link = active.size + size, active.end + 1, own
        self.reach("written")
        return active.end - 1

    def sync(self) -> None:
        """What was taken survives the power, too."""
        if self._broken:
            raise EdgeError(
                f"{self.folder}: the disk failed to write; close this, and open it anew."
            )
        if self._file is not None and self.unsynced:
            try:
                os.fsync(self._file)
            except OSError as error:
                # The system forgets what it could not write: a second fsync would say yes.
                self._broken = True
                raise EdgeError(
                    f"{self.folder}: the disk failed to write ({error.strerror})."
                ) from error
            self.reach("synced")
        self._synced = self.end

    def _active(self, size: int) -> _Segment:
        """The segment to write to, with `size` bytes more; a new one when it is time."""
        if self._segments and self._file is not None:
            last = self._segments[-1]
            if last.end == last.first or last.size + size <= self.segment_bytes:
                return last
            self.sync()
        first = self.end
        before = self._segments[-1].link if self._segments else self.position.link
        path = self.folder / f"{first:020d}{_SUFFIX}"
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600)
        try:
            if os.write(file, _MAGIC + before) != _HEADER:
                raise OSError(28, "No space left on device")
            os.fsync(file)
            self._sync_folder()
        except OSError:
            os.close(file)
            path.unlink()
            raise
        if self._file is not None:
            os.close(self._file)
        self._file = file
        self._segments.append(_Segment(path, first, first, _HEADER, before, before))
        self.reach("rolled")
        return self._segments[-1]

    def _drop(self) -> bool:
        """Give up the oldest segment, unless it is the one that is written; whether it went."""
        if len(self._segments) < 2:
            return False
        oldest = self._segments.pop(0)
        self.dropped += max(0, oldest.end - max(oldest.first, self.position.acked))
        oldest.path.unlink()
        self.reach("dropped")
        return True

    # Giving records away

    def read(self, records: int, size: int, now: int) -> Batch | None:
        """The next batch of what is synced and not confirmed: at most so many records and bytes,
        but at least one record. None when there is nothing."""
        position = self.position
        for segment in self._segments:
            if min(segment.end, self._synced) <= position.acked:
                continue
            at, data, found = self._frames(segment, position.acked)
            taken: list[Frame] = []
            for each in found:
                if each.sequence >= self._synced:
                    break
                if each.sequence < position.acked or not (each.good or taken):
                    continue
                full = taken and (len(taken) >= records or each.end - taken[0].start > size)
                if full or not each.good:
                    break
                taken.append(each)
            if taken:
                first, last = taken[0], taken[-1]
                self._cursor = _Cursor(segment.first, last.sequence + 1, at + last.end, last.link)
                missing_from = min(first.sequence, position.acked)
                if position.acked <= self._oldest:
                    missing_from = position.start  # this is the oldest that there is
                return Batch(
                    position.device,
                    position.epoch,
                    position.start,
                    missing_from,
                    first.sequence,
                    first.before,
                    now,
                    data[first.start : last.end],
                    last.sequence + 1,
                )
        return None

    def settle(self, sequence: int, link: bytes | None) -> None:
        """The gateway says that it has all before `sequence`, and the link of the record before it.

        What it has is deleted here. Where its link is not ours, or it has more than we ever sent,
        this device and what it knows are of two histories: then what waits begins a new epoch.
        """
        if sequence > self._synced:
            self.new_epoch()
            return
        own = self._link_at(sequence)
        if own is None:  # older than all that is here
            first = self._segments[0] if self._segments else None
            sequence = first.first if first else self.position.acked
            own = first.before if first else self.position.link
        elif link is not None and link != own:
            self.new_epoch()
            return
        if sequence != self.position.acked:
            self._move(replace(self.position, acked=sequence, link=own))
        self._forget()

    def new_epoch(self) -> None:
        """What waits, and what comes, is of a new history."""
        position = self.position
        self._move(replace(position, epoch=_new_epoch(), start=position.acked))

    def _link_at(self, sequence: int) -> bytes | None:
        """The link before `sequence`; None when it is not here."""
        if sequence == self.position.acked:
            return self.position.link
        for segment in self._segments:
            if sequence == segment.first:
                return segment.before
            if segment.first < sequence <= segment.end:
                for each in self._frames(segment, sequence - 1)[2]:
                    if each.sequence == sequence - 1:
                        return each.link
        return None

    def _frames(self, segment: _Segment, sequence: int) -> tuple[int, bytes, Iterator[Frame]]:
        """A place in a segment's file, the bytes from there on, and their frames: `sequence` and
        those behind it, and maybe some before."""
        start = _Cursor(segment.first, segment.first, _HEADER, segment.before)
        if self._cursor and self._cursor.segment == segment.first:
            start = self._cursor if self._cursor.sequence <= sequence else start
        try:
            with segment.path.open("rb") as file:
                file.seek(start.place)
                data = file.read(segment.size - start.place)
        except OSError:
            data = b""  # nothing of it can be read: it counts as lost
        return start.place, data, frames(data, 0, start.sequence, start.link)

    def _forget(self, all_: bool = False) -> None:
        """Delete the segments that the gateway has; the one that is written only when it is large,
        or `all_`."""
        while self._segments and self._segments[0].end <= self.position.acked:
            segment = self._segments[0]
            last = len(self._segments) == 1
            if last and (segment.size <= self.segment_bytes // 2 and not all_):
                return
            if last and self._file is not None:
                os.close(self._file)
                self._file = None
            segment.path.unlink(missing_ok=True)
            del self._segments[0]
            self.reach("deleted")

    # Opening and closing

    def close(self) -> None:
        """Let go of the folder; `sync` is the caller's."""
        for name in ("_file", "_position_file", "_lock"):
            if (number := getattr(self, name, None)) is not None:
                os.close(number)
                setattr(self, name, None)

    def _open_segments(self) -> list[_Segment]:
        paths = sorted(path for path in self.folder.glob(f"*{_SUFFIX}") if path.stem.isdecimal())
        segments: list[_Segment] = []
        for number, path in enumerate(paths):
            first, size = int(path.stem), path.stat().st_size
            with path.open("rb") as file:
                header = file.read(_HEADER)
            whole = len(header) == _HEADER and header.startswith(_MAGIC)
            if not whole and size <= _HEADER and number == len(paths) - 1:
                path.unlink()  # the power went while it was made: it has no record
                continue
            before = header[len(_MAGIC) :] if whole else NO_LINK
            if segments:
                segments[-1].end, segments[-1].link = first, before
            segments.append(_Segment(path, first, first, size, before, before))
        return segments

    def _open_last(self) -> None:
        """Open the last segment for writing, without what the power left half-written in it."""
        if not self._segments:
            return
        last = self._segments[-1]
        whole, end = _HEADER, last.first
        for each in self._frames(last, last.first)[2]:
            if each.good:
                whole, end, last.link = _HEADER + each.end, each.sequence + 1, each.link
        self._file = os.open(last.path, os.O_RDWR | os.O_APPEND)
        if whole < last.size:
            os.ftruncate(self._file, whole)
        last.size, last.end = whole, end
        # What survived a kill may still be in the system's memory only.
        os.fsync(self._file)

    def _open_position(self, device: str) -> None:
        path = self.folder / "position"
        found = []
        if path.exists():
            data = path.read_bytes()
            found = [p for at in (0, _SLOT) if (p := _read_slot(data[at : at + _SLOT]))]
        if found:
            self.position = max(found, key=lambda position: position.turn)
            if self.position.device != device:
                raise EdgeError(
                    f"{self.folder} is of the device {self.position.device}, not of {device}."
                )
        else:
            first = self._segments[0] if self._segments else None
            start, before = (first.first, first.before) if first else (0, NO_LINK)
            self.position = Position(device, _new_epoch(), start, start, before)
        self._position_file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        if not found:
            os.ftruncate(self._position_file, 2 * _SLOT)
            self._move(self.position)
            os.fsync(self._position_file)
            self._sync_folder()

    def _move(self, position: Position) -> None:
        """Write the position, into the half that is the older one, and wait for the disk."""
        position = replace(position, turn=position.turn + 1)
        text = json.dumps(asdict(position) | {"link": position.link.hex()}).encode()
        slot = b"%08x %s" % (zlib.crc32(text), text)
        assert self._position_file is not None
        os.pwrite(self._position_file, slot.ljust(_SLOT - 1) + b"\n", position.turn % 2 * _SLOT)
        os.fsync(self._position_file)
        self.position = position
        self.reach("position-kept")

    def _sync_folder(self) -> None:
        """New names survive the power."""
        folder = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _new_epoch() -> str:
    return secrets.token_hex(8)


def _read_slot(slot: bytes) -> Position | None:
    """A position that is whole, or None."""
    check, _, text = slot.rstrip().partition(b" ")
    if b"%08x" % zlib.crc32(text) != check:
        return None
    values = json.loads(text)
    return Position(**values | {"link": bytes.fromhex(values["link"])})
