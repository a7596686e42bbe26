"""`python -m benchmarks [NAME ...]`: run benchmarks, show them, write data/benchmarks.json."""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.measure import REPO, Result

NAMES = (
    "deduplicate",
    "default_checks",
    "build",
    "incremental_day",
    "compaction",
    "delta_rs",
    "erase",
    "as_of",
    "scd2",
    "capture",
    "stream",
    "layout",
    "joins",
    "engines",
    "script",
)
OUTPUT = REPO / "data" / "benchmarks.json"


def show(console: Console, result: Result) -> None:
    table = Table("variant", "seconds (median)", "ratio", "", title=result.question)
    for variant in result.variants:
        table.add_row(
            variant.name, f"{median(variant.seconds):.3f}", f"{variant.ratio:.2f}", variant.note
        )
    console.print(table)


def main(names: list[str]) -> int:
    console = Console()
    unknown = sorted(set(names) - set(NAMES))
    if unknown:
        console.print(f"No benchmark {', '.join(unknown)}. There are: {', '.join(NAMES)}.")
        return 2
    results = json.loads(OUTPUT.read_text(encoding="utf-8")) if OUTPUT.exists() else {}
    for name in names or NAMES:
        with tempfile.TemporaryDirectory(prefix="lakebed-bench-") as folder:
            with console.status(f"{name} ..."):
                result = importlib.import_module(f"benchmarks.{name}").measure(Path(folder))
            show(console, result)
        results[name] = result.as_dict()
        OUTPUT.parent.mkdir(parents=True, exist_ok=True)
        OUTPUT.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
