"""`make contracts`: a change that breaks a contract is refused, one that keeps it is not."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from lakehouse import REPO, Lakehouse

PROVES = ["pat-contract-evolution", "pat-data-contract"]

YAML = "models/gold/retail/_retail__gold.yml"
MODEL = "  - name: dim_stores\n"
SOURCES = ("dbt_project.yml", "profiles.yml", "selectors.yml", "Makefile")
FOLDERS = ("models", "macros", "seeds", "snapshots", "tests", "analyses")


@pytest.fixture
def fork(tmp_path: Path) -> Path:
    """The project as a git repository of its own, released as v1."""
    folder = tmp_path / "fork"
    folder.mkdir()
    for name in SOURCES:
        shutil.copy(REPO / name, folder)
    for name in FOLDERS:
        shutil.copytree(REPO / name, folder / name)
    (folder / ".gitignore").write_text("target/\nlogs/\n", encoding="utf-8")
    who = ("-c", "user.name=fork", "-c", "user.email=fork@example.com", "-c", "commit.gpgsign=0")
    for command in (("init", "-q"), ("add", "."), (*who, "commit", "-qm", "v1"), ("tag", "v1")):
        subprocess.run(("git", *command), cwd=folder, check=True)
    return folder


def contracts(fork: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    environment = Lakehouse(fork).environment()
    for name in ("DBT_PROJECT_DIR", "DBT_TARGET_PATH", "MAKEFLAGS", "MAKELEVEL"):
        environment.pop(name, None)
    environment["DBT_PROFILES_DIR"] = "."
    return subprocess.run(
        ("make", "-o", ".venv/ok", "contracts", *variables),
        cwd=fork,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def change(fork: Path, old: str, new: str) -> None:
    """Replaces the first `old` in the YAML of dim_stores."""
    file = fork / YAML
    before, model, after = file.read_text(encoding="utf-8").partition(MODEL)
    assert old in after
    file.write_text(before + model + after.replace(old, new, 1), encoding="utf-8")


def test_no_release_yet(fork: Path) -> None:
    done = contracts(fork, "RELEASE=")
    assert (done.returncode, done.stdout) == (0, "No release yet: no contract to keep.\n")


def test_what_a_reader_does_not_notice(fork: Path) -> None:
    change(fork, "columns:\n", "columns:\n    - {name: city, data_type: string}\n")
    done = contracts(fork)
    assert done.returncode == 0, done.stdout
    assert done.stdout.endswith("No contract of v1 is broken.\n")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("data_type: string", "data_type: bigint", "store_key (string -> bigint)"),
        ("type: not_null", "type: unique", "'ConstraintType.not_null' constraint on column"),
    ],
)
def test_what_breaks_a_reader(fork: Path, old: str, new: str, reason: str) -> None:
    change(fork, old, new)
    done = contracts(fork)
    assert done.returncode != 0
    assert "Breaking change to contracted, unversioned model dim_stores" in done.stdout
    assert reason in done.stdout


def test_a_table_that_is_gone(fork: Path) -> None:
    (fork / "models/gold/retail/dim_stores.sql").rename(fork / "models/gold/retail/dim_shops.sql")
    for file in (fork / "models").rglob("*.*"):
        file.write_text(file.read_text("utf-8").replace("dim_stores", "dim_shops"), "utf-8")
    done = contracts(fork)
    assert done.returncode != 0
    assert "Contracted model 'model.lakebed.dim_stores' was deleted or renamed" in done.stdout
