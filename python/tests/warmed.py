"""What the process that warm.py forks has done: dbt parsed a project, so that what it compiles at
first use is there, and parsed it again without models, which leaves Lakebed's macros alone. And the
trees of all macros are there, for what parses them anew.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jinja2
from dbt.cli.main import dbtRunner
from harness import DbtProject
from lakebed.spark.cluster import Cluster

MODELS = {
    "models/one.sql": "select 1 as id",
    "models/two.sql": "select * from {{ ref('one') }}",
    "models/all.yml": """
sources: [{name: raw, tables: [{name: rows}]}]
models:
- name: one
  config: {contract: {enforced: true}}
  columns: [{name: id, data_type: int, data_tests: [not_null]}]
""",
    "snapshots/then.sql": """
{% snapshot then %}{{ config(unique_key='id', strategy='check', check_cols='all') }}
select * from {{ ref('two') }}{% endsnapshot %}""",
    "seeds/few.csv": "id\n1\n",
    "tests/none.sql": "select * from {{ ref('two') }} where id is null",
}


def _remember_trees() -> None:
    """Of templates that are parsed to be looked at; what is rendered is parsed elsewhere."""
    parse = jinja2.Environment.parse
    trees: dict[tuple[object, ...], jinja2.nodes.Template] = {}

    def remembered(self: jinja2.Environment, source: str, *names: Any) -> jinja2.nodes.Template:
        kind = (type(self), *self.extensions, source)
        if kind not in trees:
            trees[kind] = parse(self, source, *names)
        return trees[kind]

    jinja2.Environment.parse = remembered  # type: ignore[method-assign]


def _parsed_macros(cluster: Cluster | None) -> bytes:
    """Of a project for DuckDB, or of one for Spark: what a macro calls depends on it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "project"
        project = DbtProject(folder, MODELS, cluster=cluster)
        before = dict(os.environ)
        os.environ.update(project._environment(None))
        try:
            for _ in range(2):
                # dbt's static parser (of unit tests too) has threads, which a fork would wait
                # for in vain.
                done = dbtRunner().invoke(
                    ["--quiet", "--no-static-parser", "parse", "--project-dir", str(folder)]
                )
                if not done.success:
                    raise RuntimeError(f"dbt parse: {done.exception}")
                for kind in ("models", "seeds", "snapshots", "tests"):
                    shutil.rmtree(folder / kind, ignore_errors=True)
        finally:
            os.environ.clear()
            os.environ.update(before)
        return (folder / "target" / "partial_parse.msgpack").read_bytes()


_remember_trees()
MACROS = {"duckdb": _parsed_macros(None), "spark": _parsed_macros(Cluster("", 0, 0, 0, 0, {}))}
