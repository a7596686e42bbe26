"""What is erased where, as the models' YAML says; and what the YAML forgets.

A column says that it names the subject (`meta: {subject: household}`) or identifies it otherwise
(`meta: {identifies: household}`). A model says what becomes of its rows:
`meta: {erase: {household: delete}}`, `{anonymise: {column: value}}`, or `none` for a table that is
made from such tables and carries nothing of them. What `lakebed stream` and `lakebed webhook` took
in are dbt sources; theirs says so in the same words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lakebed.errors import UserError

Node = Mapping[str, Any]

_STORED = ("model", "snapshot", "seed")
#: What a bronze model of files is made of: its source and entity.
LANDED = re.compile(r"landed_lines\(\s*['\"]([^'\"]+)['\"]\s*,\s*['\"]([^'\"]+)['\"]")
_WHOLE = ("tinyint", "smallint", "int", "integer", "bigint")
_OWN = ("ingested_at", "broken_rules")
_PATH = re.compile(r"\w[\w-]*(\.\w[\w-]*)*")


@dataclass(frozen=True)
class LineRule:
    """How the subject stands in the lines of a file.

    `fields` are the header names of its key and `data_type` what the key is; `replace` gives, for
    the lines that stay, header names and the new text of their field.
    """

    fields: list[str]
    data_type: str
    replace: list[tuple[list[str], str]] | None  # None: the line is deleted


@dataclass
class TablePlan:
    """What erasure does to one table."""

    name: str
    database: str
    schema: str
    identifier: str
    delete: bool
    keys: list[dict[str, str]]  # name and data_type of the columns that hold the subject's key
    values: dict[str, Any] = field(default_factory=dict)  # column: what an anonymised row has
    types: dict[str, str] = field(default_factory=dict)
    line: LineRule | None = None  # a bronze table: the subject is in its lines
    landed: tuple[str, str] | None = None  # source and entity of its files
    lines_of: dict[str, str] | None = None  # a table with a copy of the lines of this one
    row_hash: list[str] | None = None  # columns of _row_hash
    judged: bool = False  # has broken_rules
    columns: list[str] = field(default_factory=list)  # all that YAML names
    stream: bool = False  # of `lakebed stream`: the subject is in `_key` and in fields of `_record`
    patch: dict[str, Any] | None = None  # what is merged into the JSON of an anonymised record


def plan(manifest: Mapping[str, Any], subject: str) -> list[TablePlan]:
    """The tables that carry `subject`, those that others copy lines from first.

    Raises UserError that names everything the policy forgets.
    """
    nodes = _nodes(manifest)
    declared = kinds(manifest)
    if subject not in declared:
        known = f"; there is {', '.join(declared)}" if declared else ""
        raise UserError(
            f"No column is tagged `meta: {{subject: {subject}}}`{known}. See docs/erasure.md."
        )
    problems = [*_forgotten(nodes, subject)]
    tables = []
    for node in nodes.values():
        if _tagged(node, subject) and _is_stored(node):
            try:
                source = node["resource_type"] == "source"
                tables.append(_source(node, subject) if source else _table(nodes, node, subject))
            except UserError as error:
                problems.append(str(error))
    if problems:
        raise UserError(
            "\n  ".join([f"the erasure policy of '{subject}' has gaps:", *sorted(problems)])
        )
    return sorted(tables, key=lambda table: (table.line is None, table.name))


def kinds(manifest: Mapping[str, Any]) -> list[str]:
    """The kinds of subjects that columns are tagged with."""
    return sorted({name for node in _nodes(manifest).values() for name in _subjects(node)})


def _nodes(manifest: Mapping[str, Any]) -> dict[str, Node]:
    models = {
        key: node for key, node in manifest["nodes"].items() if node["resource_type"] in _STORED
    }
    return {**models, **manifest.get("sources", {})}


def meta(thing: Node) -> dict[str, Any]:
    """`meta` of a model or a column, wherever dbt keeps it."""
    found: dict[str, Any] = (thing.get("config") or {}).get("meta") or thing.get("meta") or {}
    return found


def _subjects(node: Node) -> Iterator[str]:
    for column in node["columns"].values():
        for tag in ("subject", "identifies"):
            if tag in meta(column):
                yield meta(column)[tag]


def _tagged(node: Node, subject: str) -> dict[str, dict[str, Any]]:
    """The columns that carry the subject, with their meta."""
    return {
        name: meta(column)
        for name, column in node["columns"].items()
        if subject in (meta(column).get("subject"), meta(column).get("identifies"))
    }


def _is_stored(node: Node) -> bool:
    return (node.get("config") or {}).get("materialized") not in ("view", "ephemeral")


def _policy(node: Node, subject: str) -> Any:
    return (meta(node).get("erase") or {}).get(subject)


def _forgotten(nodes: Mapping[str, Node], subject: str) -> Iterator[str]:
    """Tables made from tables with the subject, that neither carry it nor say that they do not."""
    # What reaches a node from above: the names of tagged columns, and from where.
    reached: dict[str, dict[str, str]] = {}

    def carried(key: str) -> dict[str, str]:
        """What a node hands on: its tagged columns, or, of a view, those of its parents too."""
        node = nodes[key]
        if _policy(node, subject) == "none" and not _tagged(node, subject):
            return {}
        own: dict[str, str] = dict.fromkeys(_tagged(node, subject), str(node["name"]))
        return {**above(key), **own} if not _is_stored(node) or not own else own

    def above(key: str) -> dict[str, str]:
        if key not in reached:
            reached[key] = {}
            for parent in nodes[key].get("depends_on", {}).get("nodes", []):
                if parent in nodes:
                    reached[key] |= carried(parent)
        return reached[key]

    for key, node in nodes.items():
        if not _is_stored(node) or node["resource_type"] == "source":
            continue
        tagged, policy, names = _tagged(node, subject), _policy(node, subject), above(key)
        same = sorted(set(names) & set(node["columns"]) - set(tagged))
        # Not every table with a copy of the lines calls them the same: `_record` says so by a tag.
        if same:
            yield (
                f"{node['name']}: column {same[0]} comes from {names[same[0]]}, where it carries "
                f"the subject, and has no tag here"
            )
        elif names and not tagged and policy != "none":
            source = sorted(set(names.values()))[0]
            yield (
                f"{node['name']}: is made from {source}, which carries the subject: tag its "
                f"columns, or say `erase: {{{subject}: none}}`"
            )


def declared(manifest: Mapping[str, Any]) -> list[str]:
    """`schema.table` of every source: other tables of streams have no policy."""
    return sorted(
        f"{node['schema']}.{node['identifier']}" for node in manifest.get("sources", {}).values()
    )


def stored(manifest: Mapping[str, Any]) -> list[str]:
    """`schema.table` of every model, snapshot, seed and source."""
    return [
        f"{node['schema']}.{node.get('identifier') or node.get('alias') or node['name']}"
        for node in [*manifest["nodes"].values(), *manifest.get("sources", {}).values()]
        if node["resource_type"] in (*_STORED, "source")
    ]


def tests(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Where tests store the rows that fail them, if they do: schemas, the names of tables there
    (`identifiers`), and of other tables there (`others`)."""
    found: dict[tuple[str, str], list[str]] = {}
    others: dict[str, list[str]] = {}
    for node in [*manifest["nodes"].values(), *manifest.get("sources", {}).values()]:
        name = str(node.get("identifier") or node.get("alias") or node["name"]).lower()
        if node["resource_type"] == "test":
            found.setdefault((node["database"] or "", node["schema"]), []).append(name)
        else:
            others.setdefault(node["schema"], []).append(name)
    return [
        {
            "database": database,
            "schema": schema,
            "identifiers": sorted(names),
            "others": sorted(others.get(schema, [])),
        }
        for (database, schema), names in sorted(found.items())
    ]


def _anonymise(node: Node, subject: str) -> dict[str, Any] | None:
    """What anonymised rows are to have; None when they are deleted."""
    name, tagged, policy = node["name"], _tagged(node, subject), _policy(node, subject)
    if policy is None:
        raise UserError(f"{name}: carries the subject in {', '.join(tagged)}, without a policy")
    anonymise = policy.get("anonymise") if isinstance(policy, dict) else None
    if policy != "delete" and not isinstance(anonymise, dict):
        raise UserError(
            f"{name}: the policy must be delete, {{anonymise: {{column: value}}}} or none, "
            f"not {policy!r}"
        )
    return anonymise


def _source(node: Node, subject: str) -> TablePlan:
    """A table of `lakebed stream` or `lakebed webhook`; fields are paths in its JSON."""
    name, anonymise = node["name"], _anonymise(node, subject)
    table = TablePlan(
        name=name,
        database=node["database"] or "",
        schema=node["schema"],
        identifier=node["identifier"] or name,
        delete=anonymise is None,
        keys=[],
        stream=True,
    )
    values = dict(anonymise or {})
    for column, tags in _tagged(node, subject).items():
        paths = tags.get("fields") or []
        if column not in ("_key", "_record", "_headers"):
            raise UserError(f"{name}: `lakebed stream` keeps no subject in {column}")
        if "subject" in tags:
            if (column == "_record") != bool(paths) or column == "_headers":
                raise UserError(
                    f"{name}: the key of a subject stands in `_key`, or in `fields` of `_record`, "
                    "e.g. fields: [user.id]"
                )
            kind = str(tags.get("data_type") or "string")
            keys = [{"name": column, "field": path, "data_type": kind} for path in paths or [""]]
            table.keys += keys
        if anonymise is not None and (left := set(paths or [column]) - set(values)):
            raise UserError(
                f"{name}: {sorted(left)[0]} carries the subject, and `anonymise` leaves it as it is"
            )
    if not table.keys:
        raise UserError(f"{name}: no column tells whose row it is (`meta: {{subject: {subject}}}`)")
    patch: dict[str, Any] = {}
    paths = [key["field"] for key in table.keys if key["field"]]
    for path in [*paths, *(path for path in values if not path.startswith("_"))]:
        if not _PATH.fullmatch(path):
            raise UserError(f"{name}: a field is names with dots between them, not {path!r}")
    for path, value in values.items():
        if path in ("_key", "_headers"):
            table.values[path] = value if value is None else str(value)
            continue
        *outer, last = path.split(".")
        inside = patch
        for step in outer:
            inside = inside.setdefault(step, {})
        inside[last] = value
    table.patch = patch or None
    return table


def _table(nodes: Mapping[str, Node], node: Node, subject: str) -> TablePlan:
    name, tagged, anonymise = node["name"], _tagged(node, subject), _anonymise(node, subject)
    columns = {key: str(column.get("data_type") or "") for key, column in node["columns"].items()}
    values = dict(anonymise or {})
    table = TablePlan(
        name=name,
        database=node["database"] or "",
        schema=node["schema"],
        identifier=node["alias"] or name,
        delete=anonymise is None,
        keys=[
            {"name": key, "data_type": columns[key]}
            for key, tags in tagged.items()
            if "subject" in tags and "line_of" not in tags and "lines_from" not in tags
        ],
        types={key: kind for key, kind in columns.items() if kind},
        judged="broken_rules" in columns,
        columns=list(columns),
    )
    for key, tags in tagged.items():
        if "line_of" in tags:
            read = _named(nodes, tags["line_of"], name)
            table.line = _line_rule(read, subject, None if anonymise is None else values)
            landed = LANDED.search(str(node.get("raw_code", "")))
            table.landed = (landed[1], landed[2]) if landed else None
            values = {}
        elif "lines_from" in tags:
            bronze = _named(nodes, tags["lines_from"], name)
            table.lines_of = {
                "database": bronze["database"] or "",
                "schema": bronze["schema"],
                "identifier": bronze["alias"] or bronze["name"],
            }
            if "_row_hash" in columns:
                table.row_hash = [
                    key
                    for key, column in node["columns"].items()
                    if not key.startswith("_")
                    and key not in _OWN
                    and not meta(column).get("derived")
                ]
        elif anonymise is not None and key not in values:
            raise UserError(
                f"{name}: {key} carries the subject, and `anonymise` leaves it as it is"
            )
    if not table.keys and table.line is None:
        raise UserError(f"{name}: no column tells whose row it is (`meta: {{subject: {subject}}}`)")
    if unknown := sorted(set(values) - set(columns)):
        raise UserError(f"{name}: `anonymise` names no column of it: {', '.join(unknown)}")
    table.values = values
    return table


def _named(nodes: Mapping[str, Node], name: str, where: str) -> Node:
    for node in nodes.values():
        if node["name"] == name:
            return node
    raise UserError(f"{where}: there is no model '{name}', which a column of it names")


def _line_rule(read: Node, subject: str, values: dict[str, Any] | None) -> LineRule:
    """The rule of a table's lines, from the model that reads them."""
    tagged = {
        name: tags
        for name, tags in _tagged(read, subject).items()
        if "lines_from" not in tags and "line_of" not in tags
    }
    keys = [name for name, tags in tagged.items() if tags.get("subject") == subject]
    if len(keys) != 1:
        raise UserError(f"{read['name']}: exactly one column must name the subject of a line")

    def names(column: str) -> list[str]:
        return [column, *meta(read["columns"][column]).get("aliases", [])]

    kind = str(read["columns"][keys[0]].get("data_type") or "string")
    if values is None:
        return LineRule(names(keys[0]), kind, None)
    lacking = sorted(set(tagged) - set(values))
    unknown = sorted(set(values) - set(read["columns"]))
    if lacking or unknown:
        raise UserError(
            f"{read['name']}: `anonymise` of its lines must name "
            f"{', '.join(lacking) or 'its columns only, not ' + ', '.join(unknown)}"
        )
    replace = [(names(key), "" if value is None else str(value)) for key, value in values.items()]
    return LineRule(names(keys[0]), kind, replace)


def is_whole(data_type: str) -> bool:
    return data_type.lower() in _WHOLE
