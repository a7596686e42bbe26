"""The lineage page: one HTML file that needs no server, no network and no other file."""

from __future__ import annotations

import json
from pathlib import Path

from lakebed.lineage.graph import Graph

PATTERNS = ["pat-lineage-visualization"]


def page(graph: Graph) -> str:
    """HTML of the whole graph: tables, columns, what they are made of and who uses them."""
    content = {
        name: {
            "kind": table.kind,
            "description": table.description,
            "about": table.about,
            "parents": sorted(table.parents),
            "columns": {
                column: [[o.table, o.column, o.how.name] for o in sorted(made_of)]
                for column, made_of in table.columns.items()
            },
        }
        for name, table in graph.tables.items()
    }
    # A description may hold anything, the end of a script included.
    data = json.dumps(content, ensure_ascii=False).replace("<", "\\u003c")
    template = (Path(__file__).parent / "page.html").read_text(encoding="utf-8")
    return template.replace("DATA", data, 1)
