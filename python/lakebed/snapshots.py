"""Immutable snapshots of tables in files: Parquet, and a manifest with checksums.

A snapshot is a folder: `manifest.json` and `data/*.parquet`. It is written beside its place and
moved there whole, by one rename, so a folder of that name is a complete snapshot; nothing but an
erasure changes it afterwards, and what does is found.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
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
        arguments["place"] = str(folder)
        made = _completed(partial, answer(project.operation("export_rows", arguments)))
        try:
            partial.rename(folder)
        except OSError as error:
            raise UserError(
                f"{folder} is there already: an export never writes over anything."
            ) from error
    synced(folder.parent)
    return made


def rewrite(folder: Path, write: Callable[[Path], dict[str, Any]], why: str) -> None:
    """Put other rows in the place of a snapshot's, which `write` writes to the folder that it is
    given; it returns what is other in the manifest, which also says `why`.

    Killed between its two renames, `restore` puts the old one back. Raises UserError.
    """
    old = verify(folder)
    before = {"sha256": old.pop("sha256"), "why": why}
    aside = _aside(folder)
    with beside(folder) as partial:
        new = write(partial / DATA)
        _completed(partial, {**old, **new, "rewritten": [*old.get("rewritten", []), before]})
        folder.rename(aside)
        partial.rename(folder)
    synced(folder.parent)
    shutil.rmtree(aside)
    synced(folder.parent)


def restore(folder: Path) -> None:
    """What a `rewrite` that was killed has left is a whole snapshot again: the old or the new."""
    aside = _aside(folder)
    if aside.exists():
        if folder.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(folder)
        synced(folder.parent)


def known(project: Project, forget: Path | None = None) -> list[dict[str, str]]:
    """Exports that the lake knows of: `table`, `folder`, `exported_at`. Without `forget`, which
    must be gone. Raises UserError."""
    arguments = {}
    if forget:
        if forget.exists():
            raise UserError(f"{forget} is still there: delete it first, then forget it.")
        arguments = {"forget": str(forget.absolute())}
    found = answer(project.operation("known_exports", arguments))
    if forget and not found["forgotten"]:
        raise UserError(f"The lake knows of no export {forget.absolute()}.")
    exports: list[dict[str, str]] = found["exports"]
    return exports


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
    try:
        manifest: dict[str, Any] = json.loads(content)
        files = {entry["path"]: entry for entry in manifest["files"]}
        known = manifest["format"] == FORMAT and all(
            Path(path).parent == Path(DATA) for path in files
        )
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: it is no manifest of an export.") from error
    if sha256 and found != sha256.lower():
        before = {each["sha256"]: each["why"] for each in manifest.get("rewritten", [])}
        by = f" by {before[sha256.lower()]}" if sha256.lower() in before else ""
        raise UserError(f"{file} was changed{by}: its sha256 is {found}, not {sha256}.")
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


def _completed(partial: Path, part: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a folder whose Parquet files were written, which is on the disk with it."""
    data = partial / DATA
    files = []
    for path in sorted(data.iterdir()) if data.is_dir() else []:
        if path.suffix != ".parquet" or path.name.startswith((".", "_")):
            path.unlink()  # marks that Spark leaves
        else:
            files.append({"path": f"{DATA}/{path.name}", "bytes": path.stat().st_size} | _sum(path))
    manifest = {"format": FORMAT, **part, "files": files}
    text = json.dumps(manifest, indent=1, ensure_ascii=False) + "\n"
    (partial / MANIFEST).write_text(text, encoding="utf-8")
    for path in (*data.iterdir(), partial / MANIFEST, data, partial):
        synced(path)
    return {**manifest, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def _aside(folder: Path) -> Path:
    """Where a snapshot is while another takes its place."""
    return folder.with_name(f".{folder.name}.replaced")


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
