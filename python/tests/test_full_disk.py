"""A disk that fills up in the middle of a build: one line, nothing lost, and on it goes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lakehouse import Lakehouse

PROVES = ["pat-idempotent"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB; needs the right to mount."""
    disk = tmp_path / "house" / "lake"
    disk.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_one_line_and_loses_nothing(small_disk: Path, tmp_path: Path) -> None:
    house = Lakehouse(small_disk.parent)
    house.land("--until", "2017-01-14", "--promotion-weeks", "1")
    failed = house.dbt("run", check=False)
    assert failed.returncode != 0
    assert failed.stdout.rstrip().endswith("No space left on device")
    assert "Traceback" not in failed.stdout

    subprocess.run(["mount", "-o", "remount,size=500m", str(small_disk)], check=True)
    house.dbt("run")
    never_full = Lakehouse(tmp_path / "other", {"LAKEBED_LANDING": str(house.landing)})
    never_full.dbt("run")
    assert house.hashes() == never_full.hashes()
