"""The client: takes records at once, and gives them to the gateway when it can."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .frames import DEVICE, HEAD, Batch, pack
from .post import Answer, key_of, post
from .store import EdgeError, EdgeFull, Store

#: What a record may be: bytes and text as they are, anything else as JSON.
Json = Mapping[str, Any] | Sequence[Any] | str | int | float | bool | None
#: Wait between two tries: half to all of it, doubled from the first to the most. Seconds.
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 300.0
#: A gateway may ask for so long a rest. Seconds.
_LONGEST_REST = 3600.0
#: A clock that is off by more than this is corrected for the signature, which holds five minutes.
_CLOCK_OFF = 60.0
#: So often a gateway may send us to another place without taking a batch.
_MOST_MOVES = 5


class Edge:
    """A device's way into the lake: `send` puts a record on disk, batches go to the gateway `url`.

    `folder` is this device's own, on a disk that stays; one process has it. `batch` records, or
    `batch_bytes`, or the `age` in seconds of the oldest make a batch go. `max_disk` bounds the
    folder in bytes: when it is full, `full` says whether new records are refused (`refuse`, the
    default) or the oldest are given up (`drop_oldest`), which the gateway is told and counts.

    What is promised: after `send` the record survives this process, whatever kills it; after
    `sync`, `send_many`, `flush` and `close`, or `sync` seconds, it survives the power, too. With
    `sync=0` each `send` waits for the disk. It is deleted when the gateway has it in the lake.

    `background`: batches go by themselves, from a thread. Without, they go in `flush` only.
    `clock` gives seconds since 1970. `reach` hears of each step, for tests.

    Safe for threads. Raises EdgeBusy when another process has the folder, and EdgeError.
    """

    def __init__(
        self,
        device: str,
        url: str,
        secret: str,
        folder: str | Path,
        *,
        batch: int = 1000,
        batch_bytes: int = 512 * 1024,
        age: float = 60.0,
        max_disk: int = 256 * 1024 * 1024,
        full: str = "refuse",
        sync: float = 1.0,
        timeout: float = 30.0,
        background: bool = True,
        clock: Callable[[], float] = time.time,
        reach: Callable[[str], None] = lambda _point: None,
    ) -> None:
        if not DEVICE.fullmatch(device):
            raise EdgeError(
                f"device is up to 100 letters, digits and . _ : -, such as pump-7, not {device!r}."
            )
        if not url.startswith(("http://", "https://")):
            raise EdgeError(f"url is that of the gateway's endpoint, not {url!r}.")
        if full not in ("refuse", "drop_oldest"):
            raise EdgeError(f"full is refuse or drop_oldest, not {full!r}.")
        if batch < 1 or batch_bytes < 1024 or max_disk < 8192 or age < 0 or sync < 0:
            raise EdgeError("batch is 1 or more, batch_bytes 1024, max_disk 8192, age and sync 0.")
        key_of(secret)
        self.device, self.url, self.age = device, url, age
        self.batch, self.batch_bytes = batch, batch_bytes
        self._secret, self._sync, self._timeout = secret, sync, timeout
        self._clock, self._reach = clock, reach
        #: Why the last try failed; None when it did not.
        self.trouble: str | None = None
        segment = min(1024 * 1024, max_disk // 8)
        self._store = Store(Path(folder), device, max_disk, segment, full == "drop_oldest", reach)
        self._changed = threading.Condition()
        self._sending = threading.Lock()
        self._closed = False
        self._limits = (batch, batch_bytes)
        self._failures = self._refused = 0
        self._bytes = self._store.disk if self._store.waiting else 0
        self._retry_at = self._rest_until = 0.0
        self._clock_off = 0.0
        #: When the oldest record that was not synced, and not confirmed, came (monotonic).
        self._unsynced_since: float | None = None
        self._waiting_since = time.monotonic() if self._store.waiting else None
        self._thread: threading.Thread | None = None
        if background:
            self._thread = threading.Thread(target=self._work, name="lakebed-edge", daemon=True)
            self._thread.start()

    def __enter__(self) -> Edge:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """Records that the gateway has not confirmed."""
        with self._changed:
            return self._store.waiting

    @property
    def dropped(self) -> int:
        """Records that this process gave up for want of room."""
        with self._changed:
            return self._store.dropped

    @property
    def epoch(self) -> str:
        """The present history of this device; a new one begins with a new disk."""
        return self._store.position.epoch

    def send(self, record: Json | bytes, sent_at: float | None = None) -> int:
        """Take a record; its sequence. `sent_at` is its time, seconds since 1970; now if absent.

        Raises EdgeFull when there is no room, and EdgeError for what is no record: not JSON, or
        longer than a batch.
        """
        taken = self._take(record, sent_at)
        self._sync_if_due()
        return taken

    def send_many(self, records: Iterable[Json | bytes]) -> int:
        """Take records, and wait for the disk once; the sequence of the last, -1 without any.

        Raises as `send` does: those before the one that is refused are taken.
        """
        last = -1
        try:
            for record in records:
                last = self._take(record, None)
        finally:
            self.sync()
        return last

    def sync(self) -> None:
        """Wait until all that was taken is on the disk. Raises EdgeError when the disk fails."""
        with self._changed:
            self._open()
            self._store.sync()
            self._unsynced_since = None

    def flush(self, timeout: float = 0.0) -> int:
        """Send what waits, now; how many records still wait. Tries for `timeout` seconds, at least
        once, unless the gateway asked to be left alone. `trouble` says what was in the way."""
        until = time.monotonic() + timeout
        self.sync()
        while True:
            self._pump(lambda: True)
            left = self.waiting
            with self._changed:
                wait = max(self._retry_at, self._rest_until) - time.monotonic()
                if not left or time.monotonic() + max(wait, 0) >= until:
                    return left
                self._changed.wait(max(wait, 0.01))

    def close(self, timeout: float = 5.0) -> None:
        """Put all on the disk, try once to send it for `timeout` seconds, let go of the folder."""
        with self._changed:
            if self._closed:
                return
        try:
            self.sync()
            self._timeout = min(self._timeout, timeout) or 0.1
            until = time.monotonic() + timeout
            if timeout and self.waiting and not self.trouble:
                self._pump(lambda: time.monotonic() < until)
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()
            if self._thread:
                self._thread.join()
            with self._sending:
                self._store.close()

    def _take(self, record: Json | bytes, sent_at: float | None) -> int:
        data = _bytes(record)
        if len(data) + HEAD.size > self.batch_bytes:
            raise EdgeError(
                f"A record of {len(data)} bytes is longer than a batch (batch_bytes "
                f"{self.batch_bytes}): it was not taken."
            )
        moment = self._clock() if sent_at is None else sent_at
        with self._changed:
            self._open()
            try:
                sequence = self._store.append(data, int(moment * 1000))
            except EdgeFull:
                self._changed.notify_all()
                raise
            now = time.monotonic()
            self._unsynced_since = self._unsynced_since or now
            self._waiting_since = self._waiting_since or now
            self._bytes += len(data) + HEAD.size
            if self._store.waiting == self.batch or self._bytes >= self.batch_bytes:
                self._changed.notify_all()
        return sequence

    def _sync_if_due(self) -> None:
        since = self._unsynced_since
        if since is not None and time.monotonic() - since >= self._sync:
            self.sync()

    def _open(self) -> None:
        if self._closed:
            raise EdgeError("This Edge is closed.")

    # Sending

    def _work(self) -> None:
        """The thread: syncs, and sends what is due."""
        while True:
            with self._changed:
                if self._closed:
                    return
                wait = self._next_work()
                if wait > 0:
                    self._changed.wait(wait)
                    continue
            try:
                self._sync_if_due()
                if self._is_due():
                    self.sync()
                    self._pump(self._is_due)
            except (EdgeError, OSError) as error:
                with self._changed:
                    if not self._closed:
                        self._failed(str(error))

    def _next_work(self) -> float:
        """Seconds until there is something to do."""
        since = self._unsynced_since
        sync = 60.0 if since is None else since + self._sync - time.monotonic()
        return min(sync, self._due(), 60.0)

    def _due(self) -> float:
        """Seconds until a batch is to go; a minute at most."""
        now = time.monotonic()
        if not self._store.waiting:
            return 60.0
        due = 0.0
        if self._store.waiting < self.batch and self._bytes < self.batch_bytes:
            due = (self._waiting_since or now) + self.age - now
        return max(due, self._retry_at - now, self._rest_until - now)

    def _is_due(self) -> bool:
        with self._changed:
            return not self._closed and self._due() <= 0

    def _pump(self, go_on: Callable[[], bool]) -> None:
        """Send batch after batch until nothing waits, one fails, or `go_on` says no."""
        with self._sending:
            while True:
                with self._changed:
                    if self._closed or time.monotonic() < self._rest_until:
                        return
                    batch = self._store.read(*self._limits, int(self._clock() * 1000))
                if batch is None:
                    return
                body = pack(batch)
                self._reach("packed")
                now = self._clock()
                answer = self._post(body, now)
                if answer.status == 401 and answer.date is not None:
                    off = answer.date - now
                    if abs(off - self._clock_off) > _CLOCK_OFF:
                        self._clock_off = off
                        answer = self._post(body, now)
                self._reach("answered")
                with self._changed:
                    good = self._learn(answer, batch)
                if not good or not go_on():
                    return

    def _post(self, body: bytes, now: float) -> Answer:
        return post(self.url, self._secret, self.device, body, now + self._clock_off, self._timeout)

    def _learn(self, answer: Answer, batch: Batch) -> bool:
        """Take the gateway's word; whether the next batch may go at once."""
        records = batch.end - batch.first
        if answer.status in (200, 409) and answer.next is not None:
            before = self._store.position
            self._store.settle(answer.next, answer.link)
            moved = replace(self._store.position, turn=0) != replace(before, turn=0)
            waiting = self._store.waiting
            if answer.status == 200 and moved:
                self._failures, self.trouble, self._retry_at = 0, None, 0.0
                self._refused, self._limits = 0, (self.batch, self.batch_bytes)
                self._waiting_since = time.monotonic() if waiting else None
                self._bytes = max(0, self._bytes - len(batch.data)) if waiting else 0
                self._changed.notify_all()
                return True
            self._refused += 1
            if moved and self._refused < _MOST_MOVES:
                return True
        if answer.status == 413 and records > 1:
            self._limits = (records // 2, self.batch_bytes)
            return True
        if answer.status in (429, 503) and answer.retry_after:
            rest = min(answer.retry_after, _LONGEST_REST)
            self._rest_until = time.monotonic() + rest * random.uniform(1.0, 1.1)
        reason = answer.reason
        if answer.status == 200:
            reason = "what answered is not the gateway"
        self._failed(reason)
        return False

    def _failed(self, reason: str) -> None:
        self._failures += 1
        self.trouble = reason
        wait = min(_FIRST_WAIT * 2.0 ** min(self._failures - 1, 16), _LONGEST_WAIT)
        self._retry_at = time.monotonic() + random.uniform(wait / 2, wait)


def _bytes(record: Json | bytes) -> bytes:
    if isinstance(record, bytes):
        return record
    try:
        if isinstance(record, str):
            return record.encode()
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise EdgeError(f"The record is not JSON ({error}): it was not taken.") from None
