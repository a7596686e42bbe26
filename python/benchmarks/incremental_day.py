"""One more day on a lake with 1, 3 and 12 months: does its build cost more?"""

from __future__ import annotations

import shutil
from datetime import date, timedelta
from pathlib import Path

from benchmarks.build import models_seconds
from benchmarks.measure import Result, compared, interleaved, run

#: Months of history to the day that is built on top of them.
DAYS = {1: date(2017, 2, 1), 3: date(2017, 4, 1), 12: date(2017, 12, 31)}


def measure(home: Path, repeats: int = 3) -> Result:
    lakes = {}
    for months, day in DAYS.items():
        lake = home / f"months_{months}"
        before = day - timedelta(days=1)
        run(lake, "lakebed", "sample", "retail", *until(before))
        run(lake, "dbt", "run")
        run(lake, "lakebed", "sample", "retail", *until(day))
        shutil.move(lake / "lake", lake / "before")
        lakes[f"{months} months of history"] = lake

    sql: dict[str, list[float]] = {name: [] for name in lakes}

    def build(name: str) -> None:
        lake = lakes[name]
        run(lake, "dbt", "run")
        sql[name].append(models_seconds(lake))

    def fresh(name: str) -> None:
        shutil.rmtree(lakes[name] / "lake", ignore_errors=True)
        shutil.copytree(lakes[name] / "before", lakes[name] / "lake")

    seconds: dict[str, list[float]] = {name: [] for name in lakes}
    for _ in range(repeats):
        for name in lakes:
            fresh(name)
            once = interleaved({name: lambda name=name: build(name)}, 1, warm_up=False)
            seconds[name] += once[name]
    notes = {
        name: f"in models: {sorted(times)[len(times) // 2]:.1f} s" for name, times in sql.items()
    }
    question = "`dbt run` after one more day of files, by the months that the lake holds already"
    return compared("incremental_day", question, seconds, notes)


def until(day: date) -> tuple[str, ...]:
    return ("--until", day.isoformat(), "--promotion-weeks", "1")
