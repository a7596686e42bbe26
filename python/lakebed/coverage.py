"""Which pattern is implemented where, and what proves it: the page docs/patterns.md.

Implementations are the nodes and macros of dbt's manifest that name patterns in `meta.patterns`,
and modules of the sidecar with `PATTERNS = [...]`. Proofs are test modules with
`PROVES = [...]`. The claims stand in seeds/patterns.csv.
"""

from __future__ import annotations

import ast
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from lakebed.errors import UserError

PAGE = Path("docs/patterns.md")
CATALOGUE = Path("seeds/patterns.csv")
Index = dict[str, set[str]]


def implementations(project: Path) -> Index:
    """Pattern to the files that implement it. Reads target/manifest.json: parse before."""
    manifest = project / "target" / "manifest.json"
    if not manifest.is_file():
        raise UserError("There is no target/manifest.json: run `dbt parse` first.")
    content = json.loads(manifest.read_text(encoding="utf-8"))
    name = content["metadata"]["project_name"]
    found: Index = defaultdict(set)
    for kind in ("nodes", "macros", "exposures"):
        for item in content[kind].values():
            if item["package_name"] == name and item["resource_type"] != "test":
                for pattern in _patterns(item):
                    found[pattern].add(item["original_file_path"])
    for pattern, files in _declared(project, Path("python/lakebed"), "PATTERNS").items():
        found[pattern] |= files
    return found


def proofs(project: Path) -> Index:
    """Pattern to the test modules that prove it."""
    return _declared(project, Path("python/tests"), "PROVES")


def check(project: Path, implemented: Index, proved: Index) -> list[str]:
    """What is wrong: a claim without implementation or proof, an unknown pattern. One line each."""
    claims = {row["pattern_id"]: row["claim"] for row in _catalogue(project)}
    problems = [
        f"{pattern} is not in {CATALOGUE} (used by {sorted(index[pattern])[0]})"
        for index in (implemented, proved)
        for pattern in sorted(set(index) - set(claims))
    ]
    for pattern, claim in claims.items():
        if claim != "planned":
            if not implemented.get(pattern):
                problems.append(f"{pattern} is claimed ({claim}), but nothing implements it")
            if not proved.get(pattern):
                problems.append(f"{pattern} is claimed ({claim}), but nothing proves it")
    return problems


def page(project: Path, implemented: Index, proved: Index) -> str:
    """The page as Markdown."""
    rows = _catalogue(project)
    claimed = sum(row["claim"] != "planned" for row in rows)
    lines = [
        "# Patterns",
        "",
        "Made by `make coverage`; the claims stand in `seeds/patterns.csv`. "
        f"{claimed} of {len(rows)} patterns are claimed. "
        "`duckdb`: shipped and proved on DuckDB; `both`: on Spark too; "
        "`planned` may have parts already, and claims nothing.",
    ]
    category = None
    for row in rows:
        if row["category"] != category:
            category = row["category"]
            lines += ["", f"## {category}", ""]
            lines += ["| pattern | claim | implemented by | proved by |", "|---|---|---|---|"]
        pattern = row["pattern_id"]
        cells = [_links(index.get(pattern, set())) for index in (implemented, proved)]
        lines.append(f"| {pattern} | {row['claim']} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def _links(files: set[str]) -> str:
    return "<br>".join(f"[{Path(file).name}](../{file})" for file in sorted(files))


def _patterns(item: dict[str, Any]) -> list[str]:
    meta = (item.get("config") or {}).get("meta") or item.get("meta") or {}
    return list(meta.get("patterns") or [])


def _catalogue(project: Path) -> list[dict[str, str]]:
    with (project / CATALOGUE).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _declared(project: Path, folder: Path, variable: str) -> Index:
    """Reads `variable = [...]` from the modules below `folder`, without importing them."""
    found: Index = defaultdict(set)
    for file in sorted((project / folder).rglob("*.py")):
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            if (
                isinstance(statement, ast.Assign)
                and isinstance(statement.targets[0], ast.Name)
                and statement.targets[0].id == variable
            ):
                for pattern in ast.literal_eval(statement.value):
                    found[pattern].add(file.relative_to(project).as_posix())
    return found
