"""`dbt run` of retail on Spark (Delta), against its own SQL submitted as one script.

The script is what dbt ran for the SQL models, in the same order, over the tables of that run;
without hooks (positions), constraints and Python models, so dbt pays for these, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

from benchmarks.incremental_day import until
from benchmarks.measure import REPO, Result, compared, environment, run

DAY = date(2017, 1, 31)
SCRIPT = """
import json, sys, time
from pathlib import Path
from lakebed.spark.settings import session

spark = session(Path(sys.argv[1]))
start = time.perf_counter()
for statement in json.loads(Path(sys.argv[2]).read_text()):
    spark.sql(statement)
print("seconds", time.perf_counter() - start)
"""


def statements(home: Path) -> tuple[list[str], float]:
    """The SQL that dbt ran, in its order; and the seconds that it says these models took."""
    target = home / "target"
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    results = json.loads((target / "run_results.json").read_text(encoding="utf-8"))["results"]
    found, seconds = [], 0.0
    for result in results:
        node = manifest["nodes"].get(result["unique_id"], {})
        if node.get("language") == "sql" and node.get("resource_type") == "model":
            ran = target / "run" / node["package_name"] / node["original_file_path"]
            found.append(ran.read_text(encoding="utf-8"))
            seconds += result["execution_time"]
    return found, seconds


def measure(home: Path) -> Result:
    run(home, "lakebed", "sample", "retail", *until(DAY))
    start = time.perf_counter()
    run(home, "dbt", "run", "--target", "spark_local")
    whole = time.perf_counter() - start
    sql, models = statements(home)
    script = home / "script.json"
    script.write_text(json.dumps(sql), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(home / "lake" / "spark"), str(script)],
        cwd=REPO,
        env={**environment(home), "PYTHONPATH": f"{REPO / 'python'}{os.pathsep}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    alone = float(done.stdout.split()[-1])
    seconds = {
        "one script": [round(alone, 1)],
        "dbt run: the same models": [round(models, 1)],
        "dbt run, all of it": [round(whole, 1)],
    }
    notes = {"one script": f"{len(sql)} statements, without the start of Spark"}
    return compared("delta_build", "Retail of a month on Delta: what dbt costs", seconds, notes)
