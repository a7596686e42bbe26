"""`lakebed tier`: files go where their age says, queries and versions stay what they were."""

from __future__ import annotations

import os
import signal
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from harness import DbtProject
from hypothesis import given
from hypothesis import strategies as st
from lakebed.erase.ducklake import folders, purge
from lakebed.erase.scan import scan
from lakebed.errors import UserError
from lakebed.project import open_lake
from lakebed.tiers import POINTS, File, Policy, lifecycle, plan, tiers_of
from streams import LAKEBED

PROVES = ["pat-storage-tiering"]

#: The guide's prices, dollars for a GB and month.
PRICES = {"hot": 0.023, "warm": 0.0125, "cold": 0.004, "archive": 0.00099}
DAYS = {"hot": 0, "warm": 90, "cold": 365, "archive": 1095}
TIERS = [{"tier": name, "days": DAYS[name], "dollars": PRICES[name]} for name in PRICES]
NOW = datetime(2026, 1, 1)
#: Days before NOW of the newest row of each of the table's files.
AGES = {"new": 10, "quarter": 100, "year": 400, "old": 1500}


def policy(**more: Any) -> Policy:
    given = {"columns": {}, "staying": frozenset(), "now": NOW, **more}
    return Policy(tiers_of(given.pop("tiers", TIERS), Path("/project")), **given)


def file(age: float, gigabytes: float = 100, table: str = "silver.events") -> File:
    place = Path("/lake/silver/events")
    return File(1, table, place, place / "f.parquet", "f.parquet", int(gigabytes * 1e9), age)


def test_the_figures_of_the_guide() -> None:
    """A hundred GB of each age; what was in Standard and goes to Glacier costs 83 % less."""
    moves, (now,), (then,) = plan([file(age) for age in (10, 100, 400, 1200)], policy())
    assert [move.new.name for move in moves] == ["warm", "cold", "archive"]
    assert now.dollars == pytest.approx(400 * 0.023)
    assert then.dollars == pytest.approx(100 * (0.023 + 0.0125 + 0.004 + 0.00099))
    assert then.bytes == dict.fromkeys(PRICES, 100 * 10**9)
    _, (now,), (then,) = plan([file(400)], policy())
    assert round(1 - then.dollars / now.dollars, 2) == 0.83
    moves, _, (then,) = plan([file(400)], policy(staying=frozenset(["silver.events"])))
    assert (moves, then.bytes) == ([], {"hot": 100 * 10**9})


@given(st.lists(st.tuples(st.floats(0, 5000), st.integers(0, 10**13)), max_size=20))
def test_no_plan_costs_more_and_none_moves_twice(given_files: list[tuple[float, int]]) -> None:
    found = [file(age, size / 1e9) for age, size in given_files]
    moves, now, then = plan(found, policy())
    assert sum(cost.dollars for cost in then) <= sum(cost.dollars for cost in now) + 1e-9
    wanted = [max((d, n) for n, d in DAYS.items() if d <= each.age)[1] for each in found]
    assert [move.new.name for move in moves] == [name for name in wanted if name != "hot"]


@pytest.mark.parametrize(
    ("tiers", "says"),
    [
        ([], "is a list of tiers"),
        ([{"tier": "hot", "days": 0}], "each has tier, days, dollars"),
        ([{**TIERS[0], "speed": 1}], "each has tier, days, dollars"),
        ([{**TIERS[0], "dollars": "much"}], "days and dollars are numbers"),
        ([TIERS[1]], "the first has 0 days"),
        ([TIERS[0], TIERS[2], TIERS[1]], "each other more than the one before"),
        ([{**TIERS[0], "place": "x"}], "is the lake's own place"),
        ([TIERS[0], {**TIERS[1], "place": "x"}, {**TIERS[2], "place": "x"}], "two have the place"),
    ],
)
def test_mistakes_of_a_policy(tiers: list[Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        tiers_of(tiers, Path())


def test_rules_for_an_object_store() -> None:
    classes = {"warm": "INTELLIGENT_TIERING", "cold": "GLACIER_IR", "archive": "DEEP_ARCHIVE"}
    tiers = [{**tier, "storage_class": classes.get(str(tier["tier"]))} for tier in TIERS]
    assert lifecycle(tiers_of(tiers, Path()), "silver/") == {
        "Rules": [
            {
                "ID": "lakebed-tiers",
                "Status": "Enabled",
                "Filter": {"Prefix": "silver/"},
                "Transitions": [
                    {"Days": 90, "StorageClass": "INTELLIGENT_TIERING"},
                    {"Days": 365, "StorageClass": "GLACIER_IR"},
                    {"Days": 1095, "StorageClass": "DEEP_ARCHIVE"},
                ],
            }
        ]
    }
    with pytest.raises(UserError, match="No tier has a storage_class"):
        lifecycle(tiers_of(TIERS, Path()), "")


class Lake:
    """A lake of four files of ages, partitioned by customer, with two tiers in folders."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tiers = [dict(tier) for tier in TIERS]
        self.tiers[1]["place"], self.tiers[2]["place"] = "../warm", str(folder / "cold")
        self.project = DbtProject(
            folder / "p",
            {
                "models/sales.sql": "select 1 as id",
                "models/m.yml": "models: [{name: sales,"
                " config: {meta: {tiering: {column: sold_at}}}}]",
            },
            {"as_of": str(NOW), "tiers": self.tiers},
        )
        with self.project.connect() as connection:
            connection.execute("call lakebed.set_option('data_inlining_row_limit', 0)")
            connection.execute("create table sales (id int, sold_at timestamp, customer varchar)")
            connection.execute("alter table sales set partitioned by (customer)")
            for number, (name, age) in enumerate(AGES.items()):
                connection.execute(
                    f"insert into sales select {number} * 100 + i, timestamp '{NOW}'"
                    f" - to_days({age} + i::int), '{name}' from range(50) as r (i)"
                )
            connection.execute("delete from sales where id in (7, 107, 307)")
        self.rows = self.project.table_hash("sales")

    def run(self, *command: str, code: int = 0) -> str:
        done = subprocess.run(
            [*LAKEBED, *command],
            cwd=self.project.folder,
            env={
                **os.environ,
                "DBT_PROFILES_DIR": str(self.project.folder),
                "LAKEBED_HOME": str(self.project.folder / "lake"),
            },
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def retier(self, **days: int) -> None:
        config = self.project.folder / "dbt_project.yml"
        text = config.read_text(encoding="utf-8")
        for name, number in days.items():
            before = next(tier for tier in self.tiers if tier["tier"] == name)
            text = text.replace(f"days: {before['days']}\n", f"days: {number}\n")
        config.write_text(text, encoding="utf-8")

    def clean(self) -> None:
        """Every file on the disks is one that the catalogue has, and the other way round."""
        with self.project.connect() as connection:
            connection.execute("call ducklake_cleanup_old_files('lakebed', cleanup_all => true)")
            listed = connection.execute(
                "select data_file, delete_file from ducklake_list_files('lakebed', 'sales')"
            ).fetchall()
        known = {str(Path(path).resolve()) for row in listed for path in row if path}
        assert known == {
            str(path.resolve())
            for place in ("p/lake/files", "warm", "cold")
            for path in (self.folder / place).rglob("*.parquet")
        }

    def lying(self) -> dict[str, list[str]]:
        return {
            place: sorted(p.parent.name for p in (self.folder / place).rglob("*.parquet"))
            for place in ("warm", "cold")
        }

    def same(self) -> None:
        assert self.project.table_hash("sales") == self.rows
        (first,) = self.project.query("select min(snapshot_id) from ducklake_snapshots('lakebed')"
                                      " where snapshot_id >= 6")  # fmt: skip
        versions = f"select count(*) from sales at (version => {first[0]})"
        assert self.project.query(versions) == [(200,)]


def test_files_go_where_their_age_says_whatever_is_killed(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.same()
    told = lake.run("tier", "plan")
    assert "3 of 4 files to move" in told
    assert lake.lying() == {"warm": [], "cold": []}
    for point in POINTS:
        lake.run("tier", "run", "--fail-at", point, code=-signal.SIGKILL)
        lake.same()
    lake.run("tier", "run")
    lake.same()
    lake.clean()
    assert lake.lying() == {
        "warm": ["customer=quarter"],
        "cold": ["customer=old", "customer=year"],
    }
    assert "0 of 4 files to move" in lake.run("tier", "plan")
    lake.same()
    # A query of what is new reads no file of another tier.
    read = lake.project.query(
        "explain analyze select count(*) from sales where sold_at > timestamp '2025-11-01'"
    )
    text = "".join(str(row[1]) for row in read).replace("│", "").split()
    assert "cold" not in "".join(text)

    # The policy changes: back to where it came from, and deeper.
    lake.retier(warm=120, cold=2000, archive=3000)
    told = lake.run("tier", "run")
    assert "from cold to warm" in told
    lake.same()
    lake.clean()
    assert lake.lying() == {"warm": ["customer=old", "customer=year"], "cold": []}
    # What is written anew is in the lake's own folder, until the next run.
    with lake.project.connect() as connection:
        connection.execute("call ducklake_rewrite_data_files('lakebed', delete_threshold => 0)")
    lake.same()
    assert "1 of 4 files to move" in lake.run("tier", "plan")


def test_what_is_erased_is_erased_in_all_tiers(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.run("tier", "run", "--fail-at", "copied:3", code=-signal.SIGKILL)
    opened = open_lake(None, lake.project.folder, lake.project.folder)
    before = folders(opened)
    assert any(folder.is_relative_to(tmp_path / "cold") for folder in before)
    assert scan(before, ["old"])[1]
    lake.project.query("delete from sales where customer in ('old', 'year')")
    purge(opened, datetime.now(timezone.utc))
    assert scan([tmp_path / "cold", tmp_path / "warm"], ["old", "year"])[1] == []
    assert scan(folders(opened), ["customer=old"])[1] == []
    assert lake.lying() == {"warm": [], "cold": []}  # one with a deleted row was written anew
    lake.clean()


def test_mistakes_of_a_lake_are_one_line(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    models = lake.project.folder / "models/m.yml"
    text = models.read_text(encoding="utf-8")
    for wish, says in (
        ("{column: id}", "main.sales: tiering: it has no column id with times."),
        ("{column: nothing}", "main.sales: tiering: it has no column nothing with times."),
        ("yes", "main.sales: tiering is {column: ...} or false, not True."),
    ):
        models.write_text(text.replace("{column: sold_at}", wish), encoding="utf-8")
        assert says in lake.run("tier", "run", code=1)
    models.write_text(text, encoding="utf-8")
    config = lake.project.folder / "dbt_project.yml"
    content = config.read_text(encoding="utf-8")
    config.write_text(content.replace("place: ../warm", "place: lake/files/warm"))
    assert "overlap" in lake.run("tier", "run", code=1)
    rules = lake.run("tier", "lifecycle", code=1)
    assert "No tier has a storage_class" in rules
    config.write_text("\n".join(
        line for line in content.splitlines() if "place:" not in line), encoding="utf-8"
    )  # fmt: skip
    assert "No tier has a place to move files to" in lake.run("tier", "run", code=1)
