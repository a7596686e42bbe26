"""What is removed from the folder of an Iceberg table: only what is no file of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lakebed.erase.iceberg import folder, forget
from lakebed.errors import UserError

PROVES = ["pat-gdpr-erase"]

KEPT = (
    "data/city=S%C3%A3o Paulo/a 1.parquet",
    "metadata/m0.avro",
    "metadata/snap-77-1-ab.avro",
    "metadata/00009-x.metadata.json",
)
#: Kept, too: checksums, statistics of the snapshot, a catalogue's note.
BESIDE = ("metadata/.m0.avro.crc", "metadata/77-cd.stats", "metadata/version-hint.text")
GONE = (
    "data/city=S%C3%A3o Paulo/b.parquet",
    "data/city=S%C3%A3o Paulo/.b.parquet.crc",
    "data/person=ada/c.parquet",
    "metadata/snap-76-1-ab.avro",
    "metadata/76-cd.stats",
    "metadata/00008-x.metadata.json",
)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    home = tmp_path / "a table"
    for name in (*KEPT, *BESIDE, *GONE):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return home


@pytest.mark.parametrize("scheme", ["", "file:", "file://"])
def test_what_no_version_has_is_removed(table: Path, scheme: str) -> None:
    assert forget({f"{scheme}{table}": [f"{scheme}{table}/{name}" for name in KEPT]}) == len(GONE)
    left = {str(path.relative_to(table)) for path in table.rglob("*") if path.is_file()}
    assert left == {*KEPT, *BESIDE}
    assert not (table / "data" / "person=ada").exists()  # a folder is named by a value


def test_a_file_by_another_name_is_not_taken_for_nobodys(table: Path, tmp_path: Path) -> None:
    """A warehouse behind a link: rows would be lost."""
    link = tmp_path / "link"
    link.symlink_to(table)
    before = sorted(table.rglob("*"))
    files = [f"{link}/{KEPT[0]}", *(f"{table}/{name}" for name in KEPT[1:])]
    with pytest.raises(UserError, match="not in that folder"):
        forget({str(table): files})
    assert sorted(table.rglob("*")) == before


def test_a_table_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder on this machine"):
        folder("hdfs://server/table")
    with pytest.raises(UserError, match="no folder on this machine"):
        folder(str(tmp_path))
