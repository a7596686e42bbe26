"""Files that appear whole or not at all, with the same bytes every time."""

from __future__ import annotations

import contextlib
import errno
import gzip
import zlib
from pathlib import Path

PATTERNS = ["pat-file-drop-microbatch", "pat-idempotent"]

#: A gzip header without time, name and operating system.
_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LEVEL = 5


class SampleError(Exception):
    """What the user can put right; the message is one line that says how."""


def compress(content: bytes) -> bytes:
    """`content` as gzip. Equal content gives equal bytes, on any day and Python version."""
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = deflate.compress(content) + deflate.flush()
    trailer = zlib.crc32(content).to_bytes(4, "little")
    return _HEADER + body + trailer + (len(content) & 0xFFFFFFFF).to_bytes(4, "little")


def write(path: Path, content: bytes) -> bool:
    """Make `path` hold `content`, and say whether that took a write.

    A file that holds it already, even compressed by another zlib, is left alone. Others
    see the old file or the new one, never a part. Raises SampleError when it can't be written.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        if _holds(path, content):
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise SampleError(explain(error, path)) from error
    return True


def explain(error: OSError, path: Path) -> str:
    """One line for an operating system's refusal to write `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk is full: {path} was not written. Free some space and run it again."
    what = error.strerror or str(error)
    return f"Cannot write {path}: {what}. Choose another folder with --landing."


def _holds(path: Path, content: bytes) -> bool:
    try:
        held = path.read_bytes()
    except FileNotFoundError:
        return False
    if held == content:
        return True
    if path.suffix != ".gz" or not held or not content:
        return False
    try:
        return gzip.decompress(held) == gzip.decompress(content)
    except (EOFError, OSError, zlib.error):
        return False
