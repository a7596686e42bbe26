"""The hooks that a project has to call, and what is said where one is missing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness import AT_WORK, POSITIONS, DbtProject

PROVES = ["pat-idempotent", "pat-gdpr-erase"]

MODEL = {"models/one.sql": "select 1 as id"}


def test_positions_that_are_never_settled_are_said(tmp_path: Path) -> None:
    whole = DbtProject(tmp_path / "whole", MODEL, config=POSITIONS)
    assert "settle_positions" not in whole.run("build").log
    half = {"on-run-start": POSITIONS["on-run-start"]}
    log = DbtProject(tmp_path / "half", MODEL, config=half).run("build").log
    assert "on-run-end has no settle_positions(results)" in log


class PlainProject(DbtProject):
    """Its tables are in a file of DuckDB."""

    def _profile(self) -> dict[str, Any]:
        output = {"type": "duckdb", "path": str(self.folder / "plain.duckdb"), "schema": "main"}
        return {"target": "plain", "outputs": {"plain": output}}


def test_work_is_written_down_in_a_lake_only(tmp_path: Path) -> None:
    assert PlainProject(tmp_path, MODEL, config=AT_WORK).run("build").code == 0
