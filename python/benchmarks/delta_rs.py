"""Many small files of a Delta table made few, by Spark's OPTIMIZE (so `optimize`) and by delta-rs.

Each time each variant has its own copy of the same table. What `optimize` takes as a command, with
all that is around it, is a variant, too, and so is the same on DuckLake.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from lakebed.spark.settings import session

from benchmarks.compaction import connect
from benchmarks.measure import Result, compared, environment, run

#: In a process of its own: a catalogue of Derby is one's alone until that ends.
CREATE = """
import sys
from pathlib import Path
from lakebed.spark.settings import session

spark = session(Path(sys.argv[1]))
spark.sql("create schema gold")
for number, table in enumerate(sys.argv[2:]):
    spark.sql(f"create table gold.small_{number} using delta location '{table}'")
"""
FILES, ROWS = 1_000, 3_000_000
TARGET_MB = 64


def rows() -> pa.Table:
    """Three integers and an amount, in no order but that of their id."""
    dice = np.random.default_rng(1)
    return pa.table(
        {
            "id": np.arange(ROWS),
            "customer": dice.integers(0, 20_000, ROWS),
            "shop": dice.integers(0, 500, ROWS),
            "amount": dice.integers(0, 10_000, ROWS) / 100,
        }
    )


@contextmanager
def started(home: Path) -> Iterator[Any]:
    before = dict(os.environ)
    os.environ.update(environment(home))
    spark = session(home / "session")  # the lake's own is dbt's
    try:
        yield spark
    finally:
        spark.stop()
        os.environ.clear()
        os.environ.update(before)


def measure(home: Path, repeats: int = 3) -> Result:
    whole, origin, per_file = rows(), home / "origin", ROWS // FILES
    for number in range(FILES):
        part = whole.slice(number * per_file, per_file)
        write_deltalake(str(origin), part, mode="append")
    size = sum(file.stat().st_size for file in origin.glob("*.parquet")) / 1e6
    seconds: dict[str, list[float]] = {}
    left: dict[str, int] = {}
    copies = 0

    def copied() -> Path:
        nonlocal copies
        copies += 1
        return shutil.copytree(origin, home / f"copy_{copies}")

    def timed(name: str, work: Callable[[], object], table: Path) -> None:
        start = time.perf_counter()
        work()
        seconds.setdefault(name, []).append(round(time.perf_counter() - start, 3))
        found = DeltaTable(str(table))
        left[name] = len(found.file_uris())
        assert found.count() == ROWS

    names = ("delta-rs, in a process that runs", "Spark's OPTIMIZE, in a session that runs")
    with started(home) as spark:
        for number in range(repeats + 1):
            if number == 1:  # the first is to warm up
                seconds.clear()
            table = copied()
            compact = DeltaTable(str(table)).optimize.compact
            timed(names[0], lambda: compact(target_size=TARGET_MB << 20), table)  # noqa: B023
            table = copied()
            optimize = f"optimize delta.`{table}`"
            timed(names[1], lambda: spark.sql(optimize).collect(), table)  # noqa: B023
    tables = [str(copied()) for _ in range(repeats)]
    run(home, sys.executable, "-c", CREATE, str(home / "lake" / "spark"), *tables)
    command = ("dbt", "--quiet", "run-operation", "optimize", "--target")
    for number in range(repeats):
        arguments = json.dumps({"relation": f"gold.small_{number}", "target_mb": TARGET_MB})
        timed(
            "`optimize` of a lake on Spark, its start included",
            lambda: run(home, *command, "spark_local", "--args", arguments),  # noqa: B023
            Path(tables[number]),
        )
    with connect(home) as lake:
        lake.execute("create schema gold")
        for number in range(repeats):
            lake.execute(f"create table gold.small_{number} as from whole limit 0")
            lake.execute("begin")
            for part in range(FILES):
                lake.execute(
                    f"insert into gold.small_{number} from whole where id >= {part * per_file}"
                    f" and id < {(part + 1) * per_file}"
                )
            lake.execute("commit")
    name = "`optimize` of a DuckLake, its start included"
    for number in range(repeats):
        arguments = json.dumps({"relation": f"gold.small_{number}", "target_mb": TARGET_MB})
        start = time.perf_counter()
        run(home, *command, "local", "--args", arguments)
        seconds.setdefault(name, []).append(round(time.perf_counter() - start, 3))
    notes = {name: f"{files} files left" for name, files in left.items()}
    question = f"{FILES:,} files of a Delta table, {size:.0f} MB in all: who makes few of them?"
    return compared("delta_rs", question, seconds, notes)
