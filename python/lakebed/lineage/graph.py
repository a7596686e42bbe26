"""The lineage graph: every column of every table, from the file or database it came from to gold.

Tables are those of dbt's manifest; columns come from the queries that dbt compiled. A model in
Python says in its YAML what its columns are made of: `meta: {lineage: {column: [table.column]}}`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from typing import Any

from lakebed.erase.policy import LANDED
from lakebed.errors import UserError
from lakebed.lineage.arrivals import Arrival, of_files
from lakebed.lineage.columns import How, NotUnderstood, Origin, origins

PATTERNS = ["pat-lineage-capture"]

#: Of a source that the sidecar writes.
STREAMED = [
    "_source",
    "_topic",
    "_topic_partition",
    "_offset",
    "_key",
    "_record",
    "_headers",
    "_sent_at",
    "_batch_id",
    "ingested_at",
]
_RECORD, _HEADER = "_record", "_header"

#: A column of a table; None: its rows.
At = tuple[str, str | None]


@dataclass
class Table:
    """A table, or what lies before the first: `columns` are those that YAML names, and the fields
    that somebody takes out of them. `rows` decide which rows there are."""

    name: str
    kind: str
    node: str | None = None
    description: str = ""
    types: dict[str, str] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)  # descriptions of columns
    columns: dict[str, set[Origin]] = field(default_factory=dict)
    rows: set[Origin] = field(default_factory=set)
    parents: set[str] = field(default_factory=set)
    outside: tuple[str, str] | None = None  # namespace and name of what is not in the lake
    arrivals: list[Arrival] = field(default_factory=list)  # what the sidecar brings from it


@dataclass(frozen=True)
class Step:
    """On the way from or to a column: the column, how it is used, and how far away it is."""

    table: str
    column: str | None  # None: the rows of the table
    how: How
    depth: int


@dataclass
class Completeness:
    """Columns of `tables` of the lake: `traced` to files, topics or databases, `made` here (counts,
    constants, times of the run), or `unknown`."""

    tables: int
    columns: int = 0
    traced: int = 0
    made: int = 0
    unknown: int = 0


@dataclass
class Graph:
    """Tables by name. `problems` are queries and files that could not be read."""

    tables: dict[str, Table] = field(default_factory=dict)
    problems: dict[str, str] = field(default_factory=dict)
    #: Tests and exposures by table, each with the column that it is about.
    readers: dict[str, list[tuple[str, str | None]]] = field(default_factory=dict)

    def find(self, name: str) -> tuple[str, str | None]:
        """A table, or a table and its column, of what a person wrote. Raises UserError."""
        if name in self.tables:
            return name, None
        by_node = {t.node.split(".")[-1]: t.name for t in self.tables.values() if t.node}
        if name in by_node:
            return by_node[name], None
        for end in (at for at, letter in enumerate(name) if letter == "."):
            table, column = name[:end], name[end + 1 :]
            table = by_node.get(table, table)
            if table in self.tables and column in self.tables[table].columns:
                return table, column
        tables = [t for t in self.tables if name.startswith(f"{t}.")]
        if tables:
            known = ", ".join(self.tables[tables[0]].columns)
            raise UserError(
                f"{tables[0]} has no column {name[len(tables[0]) + 1 :]}; it has {known}."
            )
        raise UserError(f"There is no table {name}: name one as schema.table, or by its model.")

    def upstream(self, table: str, column: str | None) -> list[Step]:
        """What a column is made of, or with None a whole table; nearest first. What only decided
        about a value is said, and not followed."""
        return list(_walk((table, column), self._above, How.aggregated))

    def downstream(self, table: str, column: str | None) -> list[Step]:
        """What is made of a column or of a table, its columns and its rows; nearest first."""
        below = self._below
        return list(_walk((table, column), lambda at: below.get(at, ()), How.deciding))

    def impact(self, table: str, column: str | None) -> dict[str, dict[str, list[str]]]:
        """What a change concerns, by table: `columns`, `rows` (filters, joins, groups), `readers`
        (tests and exposures). Of a table itself: all that depends on it."""
        found: dict[str, dict[str, list[str]]] = {}
        own = [Step(table, column, How.same, 0)]
        for step in own + self.downstream(table, column):
            of = found.setdefault(step.table, {"columns": [], "rows": [], "readers": []})
            if step.column is not None and step.depth:
                of["columns"].append(step.column)
            elif step.how is How.deciding:
                of["rows"].append("which there are")
        for name, of in found.items():
            columns = {*of["columns"], *([column] if name == table and column else ())}
            for label, about in self.readers.get(name, ()):
                whole = column is None or (of["rows"] and about is None)
                if whole or about in columns or (about is None and columns):
                    of["readers"].append(label)
        return {name: of for name, of in found.items() if any(of.values())}

    def completeness(self) -> Completeness:
        """How many columns of the lake's own tables are traced to what lies outside."""
        own = [t for t in self.tables.values() if t.kind in ("model", "snapshot")]
        counts = Completeness(len(own))
        for table in own:
            for column in table.columns:
                counts.columns += 1
                if table.name in self.problems:
                    counts.unknown += 1
                elif any(
                    self.tables[step.table].outside for step in self.upstream(table.name, column)
                ):
                    counts.traced += 1
                else:
                    counts.made += 1
        return counts

    def _above(self, at: At) -> Iterator[tuple[At, How]]:
        table = self.tables[at[0]]
        if at[1] is None:
            yield from (((parent, None), How.same) for parent in sorted(table.parents))
        else:
            for origin in sorted(table.columns.get(at[1], ())):
                yield (origin.table, origin.column), origin.how

    @property
    def _below(self) -> dict[At, list[tuple[At, How]]]:
        found: dict[At, list[tuple[At, How]]] = {}
        for table in self.tables.values():
            for parent in table.parents:
                found.setdefault((parent, None), []).append(((table.name, None), How.same))
            for column, made_of in [*table.columns.items(), (None, table.rows)]:
                for each in made_of:
                    below = found.setdefault((each.table, each.column), [])
                    below.append(((table.name, column), each.how))
        return {at: sorted(reached, key=str) for at, reached in found.items()}


def _walk(begin: At, near: Callable[[At], Iterable[tuple[At, How]]], until: How) -> Iterator[Step]:
    """Nearest first, each once; on from what is used in no other way than `until`."""
    seen, now, depth = {begin}, [(begin, How.same)], 1
    while now:
        following = []
        for at, before in now:
            for reached, how in near(at):
                if reached not in seen:
                    seen.add(reached)
                    how = max(how, before)
                    # From a column to rows: what is made of them is all that the table has.
                    if how <= until and (reached[1] is not None or at[1] is None):
                        following.append((reached, how))
                    yield Step(*reached, how, depth)
        now, depth = following, depth + 1


def build(manifest: Mapping[str, Any], arrivals: Iterable[Arrival]) -> Graph:
    """The graph of a manifest with compiled queries."""
    graph = Graph()
    stored = {
        key: node
        for key, node in manifest["nodes"].items()
        if node["resource_type"] in ("model", "snapshot", "seed")
    }
    names = {key: _name(node) for key, node in {**stored, **manifest["sources"]}.items()}
    for key, node in {**stored, **manifest["sources"]}.items():
        columns = list(node["columns"])
        if node["resource_type"] == "source" and (node["config"].get("meta") or {}).get("stream"):
            columns = STREAMED
        graph.tables[names[key]] = Table(
            names[key],
            node["resource_type"],
            key,
            node["description"],
            {column: node["columns"].get(column, {}).get("data_type") or "" for column in columns},
            {name: column["description"] for name, column in node["columns"].items()},
            {column: set() for column in columns},
        )
    dialect = {"duckdb": "duckdb"}.get(manifest["metadata"]["adapter_type"], "spark")
    landed = []
    for key, node in stored.items():
        table = graph.tables[names[key]]
        parents = {
            names[parent] for parent in node["depends_on"].get("nodes", ()) if parent in names
        }
        table.parents = parents - {table.name}
        if found := LANDED.search(node.get("raw_code") or ""):
            landed.append(of_files(found[1], found[2], table.name.split(".")[1]))
            continue
        _made_of(graph, table, node, dialect)
    _connect(graph, list(arrivals), landed)
    _read_by(graph, manifest, names)
    return graph


def _in_order(nodes: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Those first that others are made of: of a table without YAML its query says the columns."""
    waiting = {key: set(node["depends_on"].get("nodes", ())) for key, node in nodes.items()}
    return ((key, nodes[key]) for key in TopologicalSorter(waiting).static_order() if key in nodes)


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['schema']}.{node.get('identifier') or node.get('alias') or node['name']}"


def _made_of(graph: Graph, table: Table, node: Mapping[str, Any], dialect: str) -> None:
    """What a model's columns are made of."""
    said = (node["config"].get("meta") or {}).get("lineage")
    if said is not None:
        for column, of in said.items():
            table.columns[column] = {
                Origin(found, name or "", How.changed) for found, name in map(graph.find, of)
            }
        return
    if node.get("language") != "sql":
        if node["resource_type"] == "model":
            graph.problems[table.name] = "a model in Python: `meta: {lineage: {column: [...]}}`"
        return
    if not node.get("compiled_code"):
        graph.problems[table.name] = "it was not compiled"
        return
    try:
        known = {name: list(held.columns) for name, held in graph.tables.items()}
        query = origins(node["compiled_code"], dialect, known)
    except NotUnderstood as error:
        graph.problems[table.name] = str(error)
        return
    for column, made_of in query.columns.items():
        table.columns[column] = {each for each in made_of if _counts(graph, each, table)}
    table.rows = {each for each in query.rows if _counts(graph, each, table)}
    for origin in {*table.rows, *(each for of in table.columns.values() for each in of)}:
        if origin.table not in graph.tables:  # read without ref() or source()
            graph.tables[origin.table] = Table(origin.table, "unknown")
            table.parents.add(origin.table)


def _counts(graph: Graph, origin: Origin, table: Table) -> bool:
    """Not what the table had before; not Lakebed's own bookkeeping (ops.positions); nor whether a
    record can be read at all, which every field of it would decide about every column."""
    own = origin.table not in graph.tables and origin.table.split(".")[0].endswith("ops")
    guard = origin.how is How.deciding and origin.column in (_RECORD, _HEADER)
    return origin.table != table.name and not own and not guard


def _connect(graph: Graph, arrivals: list[Arrival], landed: list[Arrival]) -> None:
    """Fields of records are columns of bronze, which came from fields outside."""
    used: dict[str, dict[str, None]] = {}
    for table in graph.tables.values():
        for origin in {*table.rows, *(each for of in table.columns.values() for each in of)}:
            if origin.table in graph.tables:
                used.setdefault(origin.table, {})[origin.column] = None
    for name, columns in used.items():
        for column in sorted(columns):
            graph.tables[name].columns.setdefault(column, set())
    for arrival in [*arrivals, *landed]:
        bronze = graph.tables.get(f"bronze.{arrival.table}")
        if bronze is None:
            continue
        outside = graph.tables.setdefault(
            arrival.label,
            Table(arrival.label, "outside", outside=(arrival.namespace, arrival.name)),
        )
        if arrival not in landed:
            outside.arrivals.append(arrival)
        bronze.parents.add(outside.name)
        for column in [each for each in bronze.columns if each.startswith(f"{_RECORD}.")]:
            if there := arrival.field(column.removeprefix(f"{_RECORD}.")):
                outside.columns.setdefault(there, set())
                made_of = {Origin(outside.name, there)}
                bronze.columns[column] = bronze.columns[column] | made_of
                bronze.columns[_RECORD] = bronze.columns.get(_RECORD, set()) | made_of


def _read_by(graph: Graph, manifest: Mapping[str, Any], names: Mapping[str, str]) -> None:
    tests = [n for n in manifest["nodes"].values() if n["resource_type"] == "test"]
    for kind, nodes in (("test", tests), ("exposure", manifest["exposures"].values())):
        for node in nodes:
            for parent in node["depends_on"].get("nodes", ()):
                if parent in names:
                    reader = (f"{kind} {node['name']}", node.get("column_name"))
                    graph.readers.setdefault(names[parent], []).append(reader)
