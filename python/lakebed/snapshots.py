"""Immutable snapshots of tables in files: Parquet, and a manifest with checksums.

A snapshot is a folder: `manifest.json` and `data/*.parquet`. It is written beside its place and
moved there whole, by one rename, so a folder of that name is a complete snapshot; nothing changes
it afterwards, and what does is found.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakebed.dbt import Project, answer
from lakebed.errors import UserError

PATTERNS = ["pat-snapshot-export"]

MANIFEST = "manifest.json"
DATA = "data"
FORMAT = 1


def export(project: Project, table: str, folder: Path, where: str | None = None) -> dict[str, Any]:
    """Write a snapshot of `table` (`schema.table`), or of its rows that fit `where`, to `folder`.

    Returns the manifest, with its own `sha256`. Raises UserError, and leaves nothing then.
    """
    folder = folder.absolute()
    if folder.exists():
        raise UserError(f"{folder} is there already: an export never writes over anything.")
    with beside(folder) as partial:
        arguments = {"relation": table, "folder": str(partial / DATA), "where": where}
        manifest = answer(project.operation("export_rows", arguments))
        data = partial / DATA
        files = []
        for path in sorted(data.iterdir()) if data.is_dir() else []:
            if path.suffix != ".parquet" or path.name.startswith((".", "_")):
                path.unlink()  # marks that Spark leaves
            else:
                files.append(
                    {"path": f"{DATA}/{path.name}", "bytes": path.stat().st_size} | _sum(path)
                )
        manifest = {"format": FORMAT, **manifest, "files": files}
        text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
        (partial / MANIFEST).write_text(text, encoding="utf-8")
        for path in (*data.iterdir(), partial / MANIFEST, data, partial):
            synced(path)
        try:
            partial.rename(folder)
        except OSError as error:
            raise UserError(
                f"{folder} is there already: an export never writes over anything."
            ) from error
    synced(folder.parent)
    return {**manifest, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def verify(folder: Path, sha256: str | None = None) -> dict[str, Any]:
    """The manifest of a snapshot whose files are all there, unchanged, and no others.

    `sha256` is what `export` printed: with it, a manifest that was written anew is found too.
    Raises UserError.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise UserError(f"{folder} is no complete export: it has no {MANIFEST}.")
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if sha256 and found != sha256.lower():
        raise UserError(f"{file} was changed: its sha256 is {found}, not {sha256}.")
    try:
        manifest: dict[str, Any] = json.loads(content)
        files = {entry["path"]: entry for entry in manifest["files"]}
        known = manifest["format"] == FORMAT and all(
            Path(path).parent == Path(DATA) for path in files
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: it is no manifest of an export.") from error
    if not known:
        raise UserError(f"{file} is not of format {FORMAT}, which this Lakebed reads.")
    there = {f"{DATA}/{path.name}" for path in (folder / DATA).glob("*")}
    if strange := sorted(there ^ set(files)):
        state = "is missing" if strange[0] in files else "is not in its manifest"
        raise UserError(f"{folder} was changed: {strange[0]} {state}.")
    for path, entry in files.items():
        if _sum(folder / path)["sha256"] != entry["sha256"]:
            raise UserError(f"{folder} was changed: {path} is not the file that was exported.")
    return {**manifest, "sha256": found}


def import_as(
    project: Project, folder: Path, table: str, sha256: str | None = None
) -> dict[str, Any]:
    """Make `table` (`schema.table`, not there yet) of a snapshot. Raises UserError, without one."""
    manifest = verify(folder, sha256)
    part = {key: manifest[key] for key in ("engine", "columns", "rows", "digest")}
    data = str((folder / DATA).absolute())
    project.operation("import_rows", {"relation": table, "folder": data, "manifest": part})
    return manifest


@contextmanager
def beside(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, removed unless it is moved away; those of the dead go first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{folder.name}."
    for left in folder.parent.glob(f"{prefix}*.lock"):
        with left.open("w") as held:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # somebody is at work
            shutil.rmtree(left.with_suffix(".partial"), ignore_errors=True)
            left.unlink(missing_ok=True)
    name = f"{prefix}{uuid.uuid4().hex[:8]}"
    lock, partial = folder.parent / f"{name}.lock", folder.parent / f"{name}.partial"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        partial.mkdir()
        try:
            yield partial
        finally:
            shutil.rmtree(partial, ignore_errors=True)
            lock.unlink(missing_ok=True)


def _sum(path: Path) -> dict[str, str]:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return {"sha256": digest.hexdigest()}


def synced(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
