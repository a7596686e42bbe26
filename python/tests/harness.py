"""Small dbt projects for tests: write files, run dbt, look at the lake.

A project installs this repository as a local package, on its own DuckDB + DuckLake lake, or in
its own schema of a Spark cluster.
dbt runs as a process of its own, as users run it, so that no state of one run is left for
the next; a deprecation warning is a failure.

    project = DbtProject(tmp_path, {"models/one.sql": "select 1 as id"})
    project.run("build")
    assert project.query("select * from one") == [(1,)]
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import warm
import yaml
from lakebed.lake import load_extensions
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session

ROOT = Path(__file__).resolve().parents[2]
NAME = "lakebed_test"

#: What a project that installs Lakebed has to add to use its incremental strategy.
UPSERT_STRATEGY = """
{% macro get_incremental_upsert_sql(arg_dict) %}
    {% do return(lakebed.get_incremental_upsert_sql(arg_dict)) %}
{% endmacro %}
"""


#: And what advance_position() needs.
POSITIONS = {
    "on-run-start": ["{{ lakebed.create_positions() }}"],
    "on-run-end": ["{{ lakebed.settle_positions(results) }}"],
}

#: And what `lakebed erase` needs where others write, too.
AT_WORK = {
    "on-run-start": ["{{ lakebed.begin_build() }}"],
    "on-run-end": ["{{ lakebed.end_build() }}"],
}

#: The same for Spark, where dbt-spark asks macros of its own.
SPARK_STRATEGIES = ROOT / "macros" / "engine" / "spark_incremental.sql"


@dataclass(frozen=True)
class Node:
    """One node of a dbt run. `failures` is the number of rows a test found."""

    name: str
    status: str
    failures: int | None
    message: str | None


@dataclass(frozen=True)
class Run:
    """One dbt command: its exit code, what it printed, and its nodes by name."""

    code: int
    log: str
    nodes: dict[str, Node]

    @property
    def statuses(self) -> dict[str, str]:
        return {name: node.status for name, node in self.nodes.items()}


class DbtProject:
    """A dbt project in `folder`, made of `files` (path to text) and of a lake of its own.

    `vars` are project variables, `config` is merged into dbt_project.yml at its top level.
    Relations are in the schema `DbtProject.schema`, unless a model says otherwise. With a
    `cluster` they are tables of its format there. `models` are the files of Lakebed's models
    that the project uses.
    """

    cluster: Cluster | None = None
    schema = "main"
    parsed: warm.Engine | None = None

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, str],
        vars: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        cluster: Cluster | None = None,
        models: tuple[str, ...] = (),
    ) -> None:
        self.cluster = cluster
        self.parsed = "spark" if cluster else "duckdb"
        if cluster:
            self.schema = f"t_{uuid.uuid4().hex[:12]}"
        project: dict[str, Any] = {
            "name": NAME,
            "version": "1.0.0",
            "config-version": 2,
            "profile": NAME,
            "vars": dict(vars or {}),
            "flags": {
                "send_anonymous_usage_stats": False,
                "require_generic_test_arguments_property": True,
            },
            **(config or {}),
        }
        # A project that wants none of Lakebed's models says so, kind by kind.
        for kind in ("models", "seeds", "snapshots", "data_tests", "exposures"):
            own = project.setdefault(kind, {})
            own["lakebed"] = {"+enabled": False, **own.get("lakebed", {})}
            if cluster and kind in ("models", "seeds", "snapshots"):
                own["+file_format"] = cluster.table_format
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "dbt_project.yml").write_text(yaml.safe_dump(project), encoding="utf-8")
        self._place(folder)
        self.write("packages.yml", yaml.safe_dump({"packages": [{"local": str(ROOT)}]}))
        self.write("profiles.yml", yaml.safe_dump({NAME: self._profile()}))
        # What `dbt deps` does for a local package, without starting dbt once more.
        package = folder / "dbt_packages" / "lakebed"
        for name in ("dbt_project.yml", "macros", *models):
            (package / name).parent.mkdir(parents=True, exist_ok=True)
            (package / name).symlink_to(ROOT / name)
        if cluster:
            self.write("macros/spark_incremental.sql", SPARK_STRATEGIES.read_text("utf-8"))
        for path, text in files.items():
            self.write(path, text)

    @classmethod
    def copy(cls, source: Path, folder: Path) -> DbtProject:
        """A project in real files, copied to `folder`. `dbt deps` is left to the caller.

        Its profile keeps the lake where the environment's LAKEBED_HOME says.
        """
        shutil.copytree(
            source, folder, ignore=shutil.ignore_patterns("target", "logs", "dbt_packages", "data")
        )
        project = cls.__new__(cls)
        project._place(folder)
        packages = yaml.safe_load((folder / "packages.yml").read_text(encoding="utf-8"))
        for package in packages["packages"]:
            if "local" in package:
                package["local"] = str((source / package["local"]).resolve())
        project.write("packages.yml", yaml.safe_dump(packages))
        return project

    def _place(self, folder: Path) -> None:
        self.folder = folder
        self.catalogue = folder / "lake" / "catalog.ducklake"
        self.data = folder / "lake" / "files"
        config = folder / "dbt_project.yml"
        self.name = yaml.safe_load(config.read_text(encoding="utf-8"))["name"]

    def _profile(self) -> dict[str, Any]:
        if self.cluster:
            output = {
                "type": "spark",
                "method": "thrift",
                "host": "127.0.0.1",
                "port": self.cluster.thrift,
                "user": "lakebed",
                "schema": self.schema,
                "threads": 2,
                "poll_interval": 0,
            }
            return {"target": "spark", "outputs": {"spark": output}}
        output = {
            "type": "duckdb",
            "path": ":memory:",
            "database": "lakebed",
            "schema": "main",
            "threads": 1,
            "plugins": [{"module": "lakebed.dbt_duckdb"}],
            "attach": [
                {
                    "path": f"ducklake:{self.catalogue}",
                    "alias": "lakebed",
                    "options": {"data_path": f"{self.data}/"},
                }
            ],
        }
        return {"target": "local", "outputs": {"local": output}}

    def write(self, path: str, text: str) -> None:
        """Write a file of the project; folders are made."""
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def run(self, *command: str, check: bool = True, env: Mapping[str, str] | None = None) -> Run:
        """Run dbt, e.g. `run("build", "--select", "orders")`.

        With `check` an exit code other than 0 raises AssertionError with dbt's log; without it
        the caller looks at `Run.nodes`. A project that does not parse, or uses
        anything deprecated, always raises.
        """
        results = self.folder / "target" / "run_results.json"
        results.unlink(missing_ok=True)
        dbt = ("dbt", *self._arguments(command))
        done = warm.run(dbt, self.folder, self._environment(env), self.parsed)
        log, code = done.stdout + done.stderr, done.returncode
        nodes = {}
        if results.exists():
            for result in json.loads(results.read_text(encoding="utf-8"))["results"]:
                name = result["unique_id"].split(".")[2]
                nodes[name] = Node(name, result["status"], result["failures"], result["message"])
        if code and (check or code != 1 or not nodes):
            raise AssertionError(f"dbt {' '.join(command)}: exit {code}\n{log}")
        return Run(code, log, nodes)

    def start(self, *command: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start dbt and return its process, the leader of a group that can be killed as one."""
        return subprocess.Popen(
            [
                *(sys.executable, "-c", "from dbt.cli.main import cli; cli()"),
                *self._arguments(command),
            ],
            cwd=self.folder,
            env=self._environment(env),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _arguments(self, command: tuple[str, ...]) -> tuple[str, ...]:
        options = ("--no-use-colors", "--warn-error-options", '{"error": ["Deprecations"]}')
        return (*options, *command)

    def _environment(self, env: Mapping[str, str] | None) -> dict[str, str]:
        return {
            **os.environ,
            "PYTHONPATH": str(ROOT / "python"),
            "DBT_PROFILES_DIR": str(self.folder),
            "LAKEBED_HOME": str(self.folder / "lake"),
            **(self.cluster.environment if self.cluster else {}),
            **(env or {}),
        }

    def compiled(self, path: str) -> str:
        """The SQL that dbt made of a file, e.g. `compiled("analyses/merge.sql")`."""
        file = self.folder / "target" / "compiled" / self.name / path
        return file.read_text(encoding="utf-8")

    def connect(self) -> duckdb.DuckDBPyConnection:
        """A connection to the project's lake; close it before dbt runs again."""
        connection = duckdb.connect()
        load_extensions(connection)
        self.catalogue.parent.mkdir(parents=True, exist_ok=True)
        connection.execute(
            f"attach 'ducklake:{self.catalogue}' as lakebed (data_path '{self.data}/')"
        )
        connection.execute("use lakebed")
        return connection

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query on the lake; names without a schema are the project's."""
        return self.table(sql)[1]

    def table(self, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
        """Column names and rows of a query on the lake."""
        if self.cluster:
            with connect_session(self.cluster.connect_url) as session:
                session.sql(f"create schema if not exists {self.schema}")
                session.sql(f"use {self.schema}")
                frame = session.sql(sql)
                return frame.columns, [tuple(row) for row in frame.collect()]
        with self.connect() as connection:
            result = connection.execute(sql)
            return [column[0] for column in result.description or []], result.fetchall()

    def table_hash(self, name: str) -> str:
        """Hash of a table's columns and rows, whatever order the rows are stored in."""
        columns, rows = self.table(f"select * from {name}")
        return hashlib.sha256(
            "\n".join([repr(columns), *sorted(map(repr, rows))]).encode()
        ).hexdigest()


def lakebed(
    project: DbtProject, *command: str, check: bool = True, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command in a project, as a person runs it."""
    cluster = project.cluster.environment if project.cluster else {}
    done = warm.run(("lakebed", *command), project.folder, {**os.environ, **cluster, **(env or {})})
    assert not check or not done.returncode, done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done
