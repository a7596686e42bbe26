"""OpenLineage events: of dbt's runs, from its artifacts, and of the sidecar's."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import yaml
from openlineage.client.event_v2 import (
    InputDataset,
    Job,
    JobEvent,
    OutputDataset,
    Run,
    RunEvent,
    RunState,
    set_producer,
)
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    data_quality_assertions_dataset,
    documentation_dataset,
    error_message_run,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
    sql_job,
)

from lakebed import __version__
from lakebed.lake import catalogue_file
from lakebed.lineage.arrivals import Arrival
from lakebed.lineage.columns import How, Origin
from lakebed.lineage.graph import Graph, Table
from lakebed.project import Lake, SparkLake

PRODUCER = f"https://pypi.org/project/lakebed/{__version__}"
set_producer(PRODUCER)  # of facets, too
_USED = {
    How.same: ("DIRECT", "IDENTITY"),
    How.changed: ("DIRECT", "TRANSFORMATION"),
    How.aggregated: ("DIRECT", "AGGREGATION"),
    How.deciding: ("INDIRECT", "CONDITIONAL"),
}
_FAILED = ("error", "fail", "runtime error", "partial success")

Event = RunEvent | JobEvent


def lake_namespace(output: Mapping[str, Any], project: Path) -> str:
    """The namespace of a target's tables, without a secret. `output` is profiles.yml's."""
    if output.get("type") == "spark":
        if output.get("method") == "session":
            return "spark://local"
        return f"spark://{output.get('host')}:{output.get('port', 10000)}"
    for attachment in output.get("attach") or []:
        if str(attachment.get("path", "")).lower().startswith("ducklake:"):
            return ducklake_namespace(str(attachment["path"]), project)
    return "lakebed"


def ducklake_namespace(path: str, project: Path) -> str:
    """The same of a DuckLake; `path` is what it is attached with."""
    if file := catalogue_file(path):
        return f"ducklake://{(project / file).resolve()}"
    words = dict(word.split("=", 1) for word in path.split() if "=" in word)
    where = {name.split(":")[-1]: value for name, value in words.items()}
    at = f"{where.get('host', 'localhost')}:{where.get('port', '5432')}"
    return f"ducklake://{at}/{where.get('dbname', 'postgres')}"


class Teller:
    """Makes events. `project` is the namespace of its jobs, `lake` of its tables."""

    def __init__(self, project: str, lake: str, graph: Graph) -> None:
        self.project = os.environ.get("OPENLINEAGE_NAMESPACE") or project
        self.lake, self.graph = lake, graph

    # --- dbt ---------------------------------------------------------------------------------

    def of_dbt(self, manifest: Mapping[str, Any], results: Mapping[str, Any]) -> Iterator[Event]:
        """What a run of dbt did: itself, each model that it built, the tests of each table."""
        meta = results["metadata"]
        command = f"dbt.{results['args'].get('which', 'run')}"
        ours = _Run(meta["invocation_id"], command, meta["invocation_started_at"])
        facets: dict[str, Any] = {
            "processing_engine": processing_engine_run.ProcessingEngineRunFacet(
                version=meta["dbt_version"], name="dbt", openlineageAdapterVersion=__version__
            )
        }
        yield self._run(ours, RunState.START, ours.began, "BATCH", "COMMAND", facets)
        for table in self.graph.tables.values():
            for arrival in table.arrivals:
                yield self.of_arrival(arrival, meta["generated_at"])
        tested: dict[str, list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
        nodes = {**manifest["nodes"], **manifest.get("unit_tests", {})}
        by_node = {table.node: table for table in self.graph.tables.values() if table.node}
        for result in results["results"]:
            node = nodes.get(result["unique_id"])
            if node is None or result["status"] == "skipped":
                continue
            if result["unique_id"] in by_node:
                yield from self._built(ours, by_node[result["unique_id"]], node, result)
            elif node["resource_type"] == "test":
                attached = node.get("attached_node")
                for key in [attached] if attached else node["depends_on"].get("nodes", ()):
                    if key in by_node:
                        tested.setdefault(by_node[key].name, []).append((node, result))
        for name, tests in tested.items():
            yield from self._tested(ours, self.graph.tables[name], tests)
        failed = [r for r in results["results"] if r["status"] in _FAILED]
        state, facets = RunState.COMPLETE, {}
        if failed:
            names = ", ".join(each["unique_id"].split(".")[2] for each in failed)
            state, facets = RunState.FAIL, {"errorMessage": _error(f"failed: {names}")}
        yield self._run(ours, state, meta["generated_at"], "BATCH", "COMMAND", facets)

    def _built(
        self, ours: _Run, table: Table, node: Mapping[str, Any], result: Mapping[str, Any]
    ) -> Iterator[Event]:
        began, ended = _times(result, ours.began)
        run = _Run(_within(ours, result["unique_id"]), f"dbt.{node['name']}", began)
        job = {}
        if result.get("compiled_code") and node.get("language") == "sql":
            job["sql"] = sql_job.SQLJobFacet(query=result["compiled_code"])
        inputs = [self.input(self.graph.tables[name]) for name in sorted(table.parents)]
        parent: dict[str, Any] = {"parent": self._parent(ours)}
        yield self._run(run, RunState.START, began, "BATCH", "MODEL", parent, job, inputs)
        state, statistics = RunState.COMPLETE, {}
        if result["status"] in _FAILED:
            state = RunState.FAIL
            parent = {**parent, "errorMessage": _error(result["message"] or "failed")}
        elif (rows := (result.get("adapter_response") or {}).get("rows_affected")) and rows > 0:
            statistics["outputStatistics"] = (
                output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)
            )
        output = self.output(table, statistics)
        yield self._run(run, state, ended, "BATCH", "MODEL", parent, job, inputs, [output])

    def _tested(
        self,
        ours: _Run,
        table: Table,
        tests: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    ) -> Iterator[Event]:
        times = [_times(result, ours.began) for _, result in tests]
        name = f"dbt.test.{table.name}"
        run = _Run(_within(ours, name), name, min(began for began, _ in times))
        assertions = [
            data_quality_assertions_dataset.Assertion(
                assertion=(node.get("test_metadata") or {}).get("name") or "custom_sql",
                success=result["status"] == "pass",
                column=node.get("column_name"),
                severity=str(node["config"].get("severity", "error")).lower(),
                name=node["name"],
                actual=str(result["failures"]) if result.get("failures") is not None else None,
            )
            for node, result in tests
        ]
        facet = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions)
        inputs = [self.input(table, {"dataQualityAssertions": facet})]
        parent = {"parent": self._parent(ours)}
        yield self._run(run, RunState.START, run.began, "BATCH", "TEST", parent, inputs=inputs)
        failed = any(result["status"] in _FAILED for _, result in tests)
        state = RunState.FAIL if failed else RunState.COMPLETE
        ended = max(ended for _, ended in times)
        yield self._run(run, state, ended, "BATCH", "TEST", parent, inputs=inputs)

    # --- what comes in -----------------------------------------------------------------------

    def of_arrival(self, arrival: Arrival, at: str) -> JobEvent:
        """What capture, stream or pull does, column by column: their runs say only tables."""
        bronze = self.graph.tables[f"bronze.{arrival.table}"]
        return JobEvent(
            eventTime=at,
            producer=PRODUCER,
            job=self.job(f"to.{bronze.name}", "STREAMING", "JOB"),
            inputs=[self.input(self.graph.tables[arrival.label])],
            outputs=[self.output(bronze)],
        )

    # --- parts -------------------------------------------------------------------------------

    def _run(
        self,
        run: _Run,
        state: RunState,
        at: str,
        processing: str,
        kind: str,
        facets: Mapping[str, Any] | None = None,
        job: Mapping[str, Any] | None = None,
        inputs: Sequence[InputDataset] = (),
        outputs: Sequence[OutputDataset] = (),
    ) -> RunEvent:
        return RunEvent(
            eventTime=at,
            producer=PRODUCER,
            eventType=state,
            run=Run(runId=run.id, facets=dict(facets or {})),
            job=self.job(run.job, processing, kind, job),
            inputs=list(inputs),
            outputs=list(outputs),
        )

    def job(
        self, name: str, processing: str, kind: str, facets: Mapping[str, Any] | None = None
    ) -> Job:
        integration = "DBT" if name.startswith("dbt.") else "LAKEBED"
        job_type = job_type_job.JobTypeJobFacet(processing, integration, kind)
        return Job(self.project, name, {"jobType": job_type, **(facets or {})})

    def _parent(self, run: _Run) -> parent_run.ParentRunFacet:
        return parent_run.ParentRunFacet(
            run=parent_run.Run(runId=run.id),
            job=parent_run.Job(namespace=self.project, name=run.job),
        )

    def _place(self, name: str) -> tuple[str, str]:
        return self.graph.tables[name].outside or (self.lake, name)

    def input(self, table: Table, facets: Mapping[str, Any] | None = None) -> InputDataset:
        return InputDataset(
            *self._place(table.name), inputFacets=dict(facets or {}), facets=self._facets(table)
        )

    def output(self, table: Table, facets: Mapping[str, Any] | None = None) -> OutputDataset:
        described = self._facets(table)
        fields = {
            column: column_lineage_dataset.Fields([self._field(each) for each in sorted(made_of)])
            for column, made_of in table.columns.items()
            if made_of
        }
        if fields or table.rows:
            described["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(
                fields=fields, dataset=[self._field(each) for each in sorted(table.rows)]
            )
        return OutputDataset(
            *self._place(table.name), outputFacets=dict(facets or {}), facets=described
        )

    def _field(self, origin: Origin) -> column_lineage_dataset.InputField:
        used = column_lineage_dataset.Transformation(*_USED[origin.how])
        return column_lineage_dataset.InputField(*self._place(origin.table), origin.column, [used])

    def _facets(self, table: Table) -> dict[str, Any]:
        facets: dict[str, Any] = {}
        if table.columns:
            facets["schema"] = schema_dataset.SchemaDatasetFacet(
                [
                    schema_dataset.SchemaDatasetFacetFields(name, table.types.get(name) or None)
                    for name in table.columns
                ]
            )
        if table.description:
            facets["documentation"] = documentation_dataset.DocumentationDatasetFacet(
                table.description
            )
        return facets


class _Run:
    """A run: its identity, its job, and when it began."""

    def __init__(self, identity: str, job: str, began: str) -> None:
        self.id, self.job, self.began = identity, job, began


def _within(run: _Run, what: str) -> str:
    """The same identity for the same thing in the same run: events may be sent twice."""
    return str(uuid.uuid5(uuid.UUID(run.id), what))


def _times(result: Mapping[str, Any], otherwise: str) -> tuple[str, str]:
    timing = result.get("timing") or [{}]
    began = timing[0].get("started_at") or otherwise
    return began, timing[-1].get("completed_at") or began


def _error(message: str, language: str = "SQL") -> error_message_run.ErrorMessageRunFacet:
    return error_message_run.ErrorMessageRunFacet(message[:5000], language)


def of_stream(
    job: str,
    run: str,
    state: str,
    arrivals: Sequence[Arrival],
    lake: Lake | SparkLake,
    project: Path,
    error: BaseException | None = None,
) -> RunEvent:
    """An event of a stream's run: tables alone, as columns are the business of dbt's run."""
    name = yaml.safe_load((project / "dbt_project.yml").read_text(encoding="utf-8"))["name"]
    graph = Graph()
    for arrival in arrivals:
        outside, bronze = (arrival.namespace, arrival.name), f"bronze.{arrival.table}"
        graph.tables[arrival.label] = Table(arrival.label, "outside", outside=outside)
        graph.tables[bronze] = Table(bronze, "source")
    at = (
        ducklake_namespace(lake.path, project)
        if isinstance(lake, Lake)
        else lake_namespace(lake.output, project)
    )
    teller = Teller(name, at, graph)
    tables = graph.tables.values()
    return RunEvent(
        eventTime=datetime.now(timezone.utc).isoformat(),
        producer=PRODUCER,
        eventType=RunState[state],
        run=Run(run, {"errorMessage": _error(str(error), "PYTHON")} if error else {}),
        job=teller.job(f"stream.{job}", "STREAMING", "JOB"),
        inputs=[teller.input(table) for table in tables if table.outside],
        outputs=[teller.output(table) for table in tables if not table.outside],
    )
