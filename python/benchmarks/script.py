"""dbt on Spark against its own SQL: silver and gold of a month, and the same statements by hand.

Both begin with a process that is to be started, and with the same lake; both end with the same
tables. The script has what dbt ran for each SQL model, in dbt's order, and nothing around it: no
parsing, no look at what is there, no positions, constraints, comments, checks or log.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from benchmarks.incremental_day import until
from benchmarks.measure import REPO, Result, compared, environment, run

MODELS = ("--select", "path:models/silver", "path:models/gold", "--full-refresh")

SCRIPT = """
import sys
from pathlib import Path
from lakebed.spark.settings import session, spark_home

spark = session(spark_home())
for file in sys.argv[1:]:
    spark.sql(Path(file).read_text(encoding="utf-8")).collect()
spark.stop()
"""


def models(home: Path) -> tuple[list[Path], float]:
    """The statements of the last run's SQL models in its order; and the seconds of all models."""
    target = home / "target"
    results = json.loads((target / "run_results.json").read_text(encoding="utf-8"))["results"]
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))["nodes"]
    results.sort(key=lambda result: result["timing"][-1]["started_at"])
    files = []
    for result in results:
        node = manifest[result["unique_id"]]
        if node["resource_type"] == "model" and node["language"] == "sql":
            folder = target / "run" / node["package_name"]
            files.append(folder / node["original_file_path"])
    return files, sum(result["execution_time"] for result in results)


def measure(home: Path, repeats: int = 3) -> Result:
    run(home, "lakebed", "sample", "retail", *until(date(2017, 1, 31)))
    run(home, "dbt", "run", "--target", "spark_local")
    seconds: dict[str, list[float]] = {
        "one script": [],
        "dbt run": [],
        "of it in models": [],
    }
    for _ in range(repeats):
        start = time.perf_counter()
        run(home, "dbt", "run", "--target", "spark_local", *MODELS)
        seconds["dbt run"].append(round(time.perf_counter() - start, 1))
        files, in_models = models(home)
        seconds["of it in models"].append(round(in_models, 1))
        start = time.perf_counter()
        command = [sys.executable, "-W", "ignore", "-c", SCRIPT, *map(str, files)]
        subprocess.run(command, cwd=REPO, env=environment(home), check=True, capture_output=True)
        seconds["one script"].append(round(time.perf_counter() - start, 1))
    notes = {"one script": f"{len(files)} statements"}
    question = "A month's silver and gold on Spark: what does dbt add to its own SQL?"
    return compared("script", question, seconds, notes)
