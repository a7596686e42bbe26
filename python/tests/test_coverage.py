"""The coverage page finds what is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lakebed import coverage
from lakebed.errors import UserError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for folder in ("target", "seeds", "python/lakebed", "python/tests"):
        (tmp_path / folder).mkdir(parents=True)
    manifest = {
        "metadata": {"project_name": "shop"},
        "nodes": {
            "model.shop.orders": {
                "package_name": "shop",
                "resource_type": "model",
                "original_file_path": "models/orders.sql",
                "config": {"meta": {"patterns": ["pat-idempotent"]}},
            },
            "model.other.theirs": {
                "package_name": "other",
                "resource_type": "model",
                "original_file_path": "models/theirs.sql",
                "config": {"meta": {"patterns": ["pat-dlq"]}},
            },
        },
        "macros": {},
        "exposures": {},
    }
    (tmp_path / "target/manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "seeds/patterns.csv").write_text(
        "pattern_id,category,claim\npat-idempotent,Core,duckdb\npat-dlq,Reliability,planned\n"
    )
    (tmp_path / "python/tests/test_orders.py").write_text('PROVES = ["pat-idempotent"]\n')
    return tmp_path


def problems(project: Path) -> list[str]:
    return coverage.check(project, coverage.implementations(project), coverage.proofs(project))


def test_no_gap(project: Path) -> None:
    assert problems(project) == []
    page = coverage.page(project, coverage.implementations(project), coverage.proofs(project))
    assert "| pat-idempotent | duckdb | [orders.sql](../models/orders.sql) |" in page
    assert "1 of 2 patterns are claimed" in page
    assert "theirs" not in page


def test_a_claim_without_proof_is_a_gap(project: Path) -> None:
    (project / "python/tests/test_orders.py").unlink()
    assert problems(project) == ["pat-idempotent is claimed (duckdb), but nothing proves it"]


def test_a_claim_without_implementation_is_a_gap(project: Path) -> None:
    (project / "seeds/patterns.csv").write_text("pattern_id,category,claim\npat-dlq,R,both\n")
    found = problems(project)
    assert "pat-dlq is claimed (both), but nothing implements it" in found
    assert "pat-dlq is claimed (both), but nothing proves it" in found


def test_an_unknown_pattern_is_a_gap(project: Path) -> None:
    (project / "python/lakebed/sink.py").write_text('PATTERNS = ["pat-magic"]\n')
    assert problems(project) == [
        "pat-magic is not in seeds/patterns.csv (used by python/lakebed/sink.py)"
    ]


def test_without_a_manifest_it_says_what_to_do(project: Path) -> None:
    (project / "target/manifest.json").unlink()
    with pytest.raises(UserError, match="dbt parse"):
        coverage.implementations(project)
