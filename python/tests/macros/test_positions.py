"""Positions need two hooks; what moves them is proved in test_two_builds and test_kill."""

from __future__ import annotations

from pathlib import Path

from harness import POSITIONS, DbtProject

PROVES = ["pat-idempotent"]


def test_a_missing_hook_is_said(tmp_path: Path) -> None:
    model = {"models/one.sql": "select 1 as id"}
    whole = DbtProject(tmp_path / "whole", model, config=POSITIONS)
    assert "settle_positions" not in whole.run("build").log
    half = {"on-run-start": POSITIONS["on-run-start"]}
    log = DbtProject(tmp_path / "half", model, config=half).run("build").log
    assert "on-run-end has no settle_positions(results)" in log
