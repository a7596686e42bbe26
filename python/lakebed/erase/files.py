"""Landing files without the subject's lines.

A rewritten file keeps its number of lines (a deleted one is left empty, which readers skip), so
that the places bronze knows stay true. It gets a later time, and the manifest a row for that
version before the file is replaced: ingestion never takes it for a new file.
"""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from lakebed import landing
from lakebed.erase.lines import fields, rewritten
from lakebed.erase.policy import LineRule
from lakebed.errors import UserError

_LATER = 1_000_000_000  # ns: a step that every file system can keep
_SUFFIX = ".erasing.part"


@dataclass(frozen=True)
class Rewrite:
    """A landing file and the one that takes its place: names, sizes and times of both."""

    name: str
    path: Path
    staged: Path
    bytes: int
    modified_ns: int
    file_id: str
    new_bytes: int
    new_modified_ns: int
    lines: int

    def version(self) -> dict[str, str | int]:
        """What the manifest must know."""
        return {
            "file_name": self.name,
            "bytes": self.bytes,
            "modified_ns": self.modified_ns,
            "file_id": self.file_id,
            "new_bytes": self.new_bytes,
            "new_modified_ns": self.new_modified_ns,
        }

    def replace(self) -> None:
        self.staged.replace(self.path)
        _sync(self.path.parent)


def affected(
    folder: Path,
    rules: dict[tuple[str, str], LineRule],
    is_erased: dict[tuple[str, str], Callable[[str], bool]],
    keys: Iterable[str],
) -> Iterator[tuple[landing.LandedFile, landing.Inspection, int]]:
    """The files with lines of the subject, and how many; those still being written, too.

    Raises UserError for a file that cannot be read as lines and has one of `keys` in it.
    """
    needles = [key.encode() for key in keys if key]
    for file in landing.scan(folder) if folder.is_dir() else ():
        place = (file.source, file.entity)
        if place not in rules:
            continue
        facts = landing.inspect(file.path)
        if facts.status in ("unreadable", "incomplete"):
            if any(needle in content(file.path) for needle in needles):
                raise UserError(
                    f"{file.path} cannot be read as lines ({facts.reason}) and names the subject: "
                    "delete or mend it, then run this again."
                )
        elif facts.status == "ready":
            lines = sum(
                new is not None
                for _, new in _lines(file.path, facts, rules[place], is_erased[place])
            )
            if lines:
                yield file, facts, lines


def stage(
    file: landing.LandedFile,
    facts: landing.Inspection,
    lines: int,
    rule: LineRule,
    is_erased: Callable[[str], bool],
) -> Rewrite:
    """Write the new file beside the old one, under a name that ingestion leaves alone."""
    staged = file.path.with_name(f".{file.path.name}{_SUFFIX}")
    with _writer(staged, file.path.suffix == ".gz", facts.encoding) as out:
        for old, new in _lines(file.path, facts, rule, is_erased):
            out.write(old if new is None else new)
    later = file.modified_ns + _LATER
    os.utime(staged, ns=(later, later))
    kept = staged.with_name(staged.name)
    stat = kept.stat()
    return Rewrite(
        name=file.name,
        path=file.path,
        staged=staged,
        bytes=file.bytes,
        modified_ns=file.modified_ns,
        file_id=_file_id(staged, file.path.suffix == ".gz"),
        new_bytes=stat.st_size,
        new_modified_ns=stat.st_mtime_ns,
        lines=lines,
    )


def content(path: Path) -> bytes:
    """All bytes of a file, decompressed as far as they go."""
    raw = path.read_bytes()
    if path.suffix != ".gz":
        return raw
    whole = b""
    try:
        with gzip.open(path, "rb") as stream:
            while chunk := stream.read(1 << 20):
                whole += chunk
    except (OSError, EOFError):
        pass
    return raw + whole


def discard(folder: Path) -> None:
    """Remove what a killed run had staged."""
    for path in folder.glob(f"*/*/.*{_SUFFIX}"):
        path.unlink()


def _lines(
    path: Path, facts: landing.Inspection, rule: LineRule, is_erased: Callable[[str], bool]
) -> Iterator[tuple[str, str | None]]:
    """Each line with its end, and what it becomes (None: it stays)."""
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rb") as raw:
        # Only \n ends a line: what else Python knows as one may stand in a field.
        text = io.TextIOWrapper(raw, encoding=facts.encoding, newline="\n")
        head: list[str] | None = None
        for line in text:
            bare = line.rstrip("\n").rstrip("\r")
            if head is None:
                head = fields(bare.removeprefix("\ufeff"))
                yield line, None
                continue
            new = rewritten(bare, head, rule, is_erased) if bare else None
            yield line, None if new is None else new + line[len(bare) :]


@contextmanager
def _writer(path: Path, compressed: bool, encoding: str) -> Iterator[IO[str]]:
    with path.open("wb") as raw:
        # No name and no time in the header of gzip: the same lines give the same bytes.
        body = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if compressed else raw
        text = io.TextIOWrapper(body, encoding=encoding, newline="\n")
        yield text
        text.flush()
        text.detach()
        if compressed:
            body.close()
        raw.flush()
        os.fsync(raw.fileno())


def _file_id(path: Path, compressed: bool) -> str:
    import hashlib

    digest = hashlib.sha256()
    with (gzip.open if compressed else open)(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
