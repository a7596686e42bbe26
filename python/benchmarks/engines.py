"""When to leave the laptop: the same models on DuckDB and on Spark, all of it and one more day.

Spark runs in dbt's process (`spark_local`), on the cores that DuckDB has.
"""

from __future__ import annotations

import shutil
import time
from datetime import date, timedelta
from pathlib import Path

from benchmarks.incremental_day import until
from benchmarks.measure import Result, Variant, run

#: The last day of what is loaded; one more day follows.
SPANS = {"1 month": date(2017, 1, 31), "12 months": date(2017, 12, 30)}
ENGINES = {"DuckDB": "local", "Spark": "spark_local"}


def measure(home: Path, repeats: int = 1) -> Result:
    variants = []
    for span, day in SPANS.items():
        seconds: dict[tuple[str, str], list[float]] = {}
        for _ in range(repeats):
            lake = home / span.replace(" ", "_")
            shutil.rmtree(lake, ignore_errors=True)
            for what, last in (("all", day), ("one more day", day + timedelta(days=1))):
                run(lake, "lakebed", "sample", "retail", *until(last))
                for engine, target in ENGINES.items():
                    start = time.perf_counter()
                    run(lake, "dbt", "run", "--target", target)
                    spent = round(time.perf_counter() - start, 1)
                    seconds.setdefault((what, engine), []).append(spent)
        for (what, engine), times in seconds.items():
            ours = seconds[what, "DuckDB"]
            ratio = round(sorted(times)[len(times) // 2] / sorted(ours)[len(ours) // 2], 1)
            variants.append(Variant(f"{span}, {what}: {engine}", times, ratio))
    return Result("engines", "`dbt run` of retail; ratios to DuckDB for the same work", variants)
