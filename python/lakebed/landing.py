"""The landing folder: find new files, and know each file before it is loaded.

Layout: `<landing>/<source>/<entity>/<file>`. Names that begin with `_` or `.`, or
end in `.tmp` or `.part`, belong to their writer and are left alone.
"""

from __future__ import annotations

import codecs
import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

PATTERNS = ["pat-file-drop-microbatch", "pat-idempotent"]

#: Lines are read whole by naming a delimiter that no text file has.
LINE_DELIMITER = "\x01"
#: Bytes of a line in a file. Less than the readers' limit, which counts UTF-8 (64 MiB).
LONGEST_LINE = 16 << 20
_CHUNK = 1 << 20
_UNFINISHED = (".tmp", ".part")


def clock(as_of: str = "") -> datetime:
    """The run's clock as naive UTC: `as_of` (ISO 8601) when given, else now."""
    if not as_of:
        return datetime.now(timezone.utc).replace(tzinfo=None)
    moment = datetime.fromisoformat(as_of.replace("Z", "+00:00"))
    return moment.astimezone(timezone.utc).replace(tzinfo=None) if moment.tzinfo else moment


@dataclass(frozen=True, order=True)
class LandedFile:
    """A file in the landing folder, known by name, size and time only."""

    source: str
    entity: str
    name: str  # relative to the landing folder, with forward slashes
    path: Path
    bytes: int
    modified_ns: int

    @property
    def version(self) -> tuple[str, int, int]:
        """What makes it new to us: the same name with other bytes is another file."""
        return (self.name, self.bytes, self.modified_ns)


@dataclass(frozen=True)
class Inspection:
    """What one pass over a file's bytes tells.

    `status` is `ready`, `incomplete` (still being written, or cut off), `unreadable`
    (not text) or `empty`; `reason` says why in words. `rows` counts the lines after
    the header, `file_id` is the SHA-256 of the decompressed content: the same content
    under another name, or compressed again, is the same file.
    """

    file_id: str
    status: str
    reason: str
    rows: int
    encoding: str
    header: str


def scan(landing: Path) -> Iterator[LandedFile]:
    """All finished files below `landing`, by name. A missing folder raises FileNotFoundError."""
    if not landing.is_dir():
        raise FileNotFoundError(
            f"The landing folder {landing} does not exist; "
            "make it, or set LAKEBED_LANDING to where files are dropped."
        )
    for path in sorted(landing.glob("*/*/*")):
        relative = path.relative_to(landing)
        if path.name.endswith(_UNFINISHED) or any(p[0] in "._" for p in relative.parts):
            continue
        if not path.is_file():
            continue
        stat = path.stat()
        source, entity = relative.parts[:2]
        yield LandedFile(source, entity, relative.as_posix(), path, stat.st_size, stat.st_mtime_ns)


def pending(landing: Path, known: Iterable[tuple[str, int, int]]) -> list[LandedFile]:
    """The files whose (name, bytes, modified_ns) are not in `known`, by name."""
    seen = set(known)
    return [file for file in scan(landing) if file.version not in seen]


def take(files: list[LandedFile], max_files: int = 0, max_bytes: int = 0) -> list[LandedFile]:
    """The head of `files` within both limits (0: no limit), at least one file of any size."""
    taken: list[LandedFile] = []
    total = 0
    for file in files:
        total += file.bytes
        if taken and ((max_files and len(taken) >= max_files) or (max_bytes and total > max_bytes)):
            break
        taken.append(file)
    return taken


def inspect(path: Path) -> Inspection:
    """Read a file once, in constant memory, and say whether and how it can be loaded."""
    try:
        return _inspect(path)
    except (EOFError, zlib.error):
        return _refused(path, "incomplete", "the compressed file ends too early")
    except gzip.BadGzipFile:
        return _refused(path, "unreadable", "not a gzip file, or damaged")
    except UnicodeError:
        return _refused(path, "unreadable", "a UTF-16 mark, but not UTF-16 text")
    except OSError as error:
        return _refused(path, "unreadable", error.strerror or str(error))


def _refused(path: Path, status: str, reason: str) -> Inspection:
    """A file that is not loaded is known by the hash of its bytes as they lie there."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    except OSError:
        digest.update(path.name.encode())
    return Inspection(digest.hexdigest(), status, reason, 0, "", "")


def _inspect(path: Path) -> Inspection:
    opener = gzip.open if path.suffix == ".gz" else open
    digest = hashlib.sha256()
    with opener(path, "rb") as stream:
        chunk = stream.read(_CHUNK)
        if not chunk:
            return _refused(path, "empty", "the file has no content")
        encoding = _marked_encoding(chunk)
        text = codecs.getincrementaldecoder(encoding)()
        head, lines, last, control = "", 0, "", False
        since_break = 0
        while True:
            digest.update(chunk)
            ended = chunk.find(b"\n")
            if since_break + (len(chunk) if ended < 0 else ended) > LONGEST_LINE:
                return _refused(path, "unreadable", f"a line of more than {LONGEST_LINE} bytes")
            since_break = (
                since_break + len(chunk) if ended < 0 else len(chunk) - 1 - chunk.rfind(b"\n")
            )
            try:
                decoded = text.decode(chunk, final=not chunk)
            except UnicodeDecodeError:
                if encoding != "utf-8":
                    raise
                # Latin-1 decodes any byte, so this happens once, and what was read
                # before was ASCII-compatible text: its lines are counted already.
                encoding = "latin-1"
                text = codecs.getincrementaldecoder(encoding)()
                decoded = text.decode(chunk)
            if "\n" not in head:
                head += decoded
            control = control or LINE_DELIMITER in decoded or "\x00" in decoded
            lines += decoded.count("\n")
            last = decoded[-1:] or last
            if not chunk:
                break
            chunk = stream.read(_CHUNK)
    if control:
        return _refused(path, "unreadable", "binary: it has control characters that no text has")
    header = head.split("\n", 1)[0].rstrip("\r").removeprefix("\ufeff")
    rows = lines - 1 + (last != "\n")
    # DuckDB skips the byte order mark of UTF-8 itself.
    return Inspection(digest.hexdigest(), "ready", "", rows, encoding, header)


def _marked_encoding(head: bytes) -> str:
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return "utf-8"
