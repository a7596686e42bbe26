"""The 62 expectations: each passes on what it allows and fails on what it forbids.

All cases are data tests of one small project and one run of `dbt test`. A case is (arguments,
model, rows that break it): 0 passes, more fails with just that number of rows, so that a test
which fails for a wrong reason is found too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from expectation_cases import CASES
from expectation_models import MODELS
from harness import ROOT, DbtProject, Run
from lakebed.spark.cluster import Cluster

PROVES = ["pat-quality-checks-defaults"]

AS_OF = "2024-01-31 12:00:00"
FOLDER = ROOT / "macros" / "quality" / "expectations"

ALL = [(name, number) for name, cases in CASES.items() for number in range(len(cases))]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, engine: Cluster | None) -> Run:
    models: dict[str, dict[str, Any]] = {name: {"name": name, "data_tests": []} for name in MODELS}
    for name, number in ALL:
        arguments, model, _ = CASES[name][number]
        models[model]["data_tests"].append(
            {f"lakebed.{name}": {"name": f"{name}_{number}", "arguments": arguments}}
        )
    files = {f"models/{name}.sql": sql for name, sql in MODELS.items()}
    files["models/_cases.yml"] = yaml.safe_dump({"models": list(models.values())})
    project = DbtProject(
        tmp_path_factory.mktemp("expectations"),
        files,
        vars={"as_of": AS_OF},
        # What a test reads does not matter to it; a table of Delta costs Spark a second to read.
        config={"models": {"+materialized": "view" if engine else "table"}},
        cluster=engine,
    )
    project.run("run")
    # Not `build`: there a failing test would skip the models below it.
    return project.run("test", check=False)


@pytest.mark.parametrize(("name", "number"), ALL)
def test_expectation(run: Run, name: str, number: int) -> None:
    broken = CASES[name][number][2]
    node = run.nodes[f"{name}_{number}"]
    assert (node.status, node.failures) == ("fail" if broken else "pass", broken), node.message


def test_every_expectation_has_both_cases() -> None:
    """62 of them, each with a case that passes and one that fails, and each documented."""
    assert len(CASES) == 62
    assert set(CASES) == {file.stem for file in FOLDER.glob("expect_*.sql")}
    for name, cases in CASES.items():
        assert {bool(broken) for _, _, broken in cases} == {True, False}, name
    text = Path(FOLDER / "_expectations.yml").read_text(encoding="utf-8")
    documented = yaml.safe_load(text)["macros"]
    assert {macro["name"] for macro in documented} == {f"test_{name}" for name in CASES}
    for macro in documented:
        assert macro["config"]["meta"]["patterns"] == PROVES
        assert all(argument["description"] for argument in macro["arguments"])
