"""Stopping between two batches, not in the middle of one."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def graceful_stop() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; the second acts as it does by default.

    An exception in the middle of a query would surface wherever the engine happens to be. Only
    for the main thread.
    """
    stop = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        for each in SIGNALS:
            signal.signal(each, before[each])

    before = {each: signal.signal(each, ask) for each in SIGNALS}
    try:
        yield stop
    finally:
        for each in SIGNALS:
            signal.signal(each, before[each])


def end_with_parent() -> None:
    """In a child process: end when the parent has ended, however that was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(0)

    threading.Thread(target=wait, daemon=True).start()
