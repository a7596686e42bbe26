"""Where a query's columns come from: a walk through its syntax tree.

A field that is taken out of JSON (`$.after.price`), or found in a line by its name in the header,
is a column of its own: `_record.after.price`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope, traverse_scope

#: Columns of tables: schema.table to the names in order.
Columns = Mapping[str, list[str]]


class How(IntEnum):
    """What became of a value on its way; of several steps the greatest stands."""

    same = 0
    changed = 1
    aggregated = 2
    deciding = 3  # it chose between values, or ordered them, and is not in the result


@dataclass(frozen=True, order=True)
class Origin:
    """A column of a table (`schema.table`) that another is made of, and how."""

    table: str
    column: str
    how: How = How.same


class NotUnderstood(Exception):
    """A query that cannot be read."""


@dataclass(frozen=True)
class Query:
    """A query's columns, each with what it is made of; and what decides which rows there are
    (filters, joins, groups)."""

    columns: dict[str, set[Origin]]
    rows: set[Origin]


def origins(sql: str, dialect: str, known: Columns) -> Query:
    """What a query's result is made of. Raises NotUnderstood."""
    try:
        parsed = parse_one(sql, dialect=dialect)
        tree = qualify(
            parsed,
            dialect=dialect,
            schema=_schema({**known, **_guessed(parsed, known)}),
            validate_qualify_columns=False,
            quote_identifiers=False,
        )
        root = build_scope(tree)
    except (SqlglotError, RecursionError) as error:
        raise NotUnderstood(str(error).splitlines()[0]) from error
    if root is None:
        raise NotUnderstood("it is no query")
    walk = _Walk()
    return Query({name: walk.column(root, name, "") for name in _names(root)}, walk.rows(root))


def _schema(known: Columns) -> dict[str, object]:
    schema: dict[str, dict[str, dict[str, str]]] = {}
    for table, columns in known.items():
        folder, name = table.split(".")
        schema.setdefault(folder, {})[name] = dict.fromkeys(columns, "unknown")
    return dict(schema)


def _names(scope: Scope) -> list[str]:
    query = scope.expression
    return query.named_selects if isinstance(query, exp.Query) else []


def _guessed(tree: exp.Expr, known: Columns) -> dict[str, list[str]]:
    """Columns of tables that are not known, where a query reads such a table alone: what it names
    must be theirs."""
    found: dict[str, dict[str, None]] = {}
    for scope in traverse_scope(tree):
        sources = [each for each in scope.sources.values() if isinstance(each, exp.Table)]
        if len(scope.selected_sources) == 1 and len(sources) == 1 and sources[0].db:
            name = f"{sources[0].db}.{sources[0].name}"
            if not known.get(name):
                own = {column.name: None for column in scope.columns if not column.table}
                found.setdefault(name, {}).update(own)
    return {name: list(columns) for name, columns in found.items()}


class _Walk:
    """Results are kept by scope, column and path: a wide CTE is walked once."""

    def __init__(self) -> None:
        self._found: dict[tuple[int, str, str], set[Origin]] = {}

    def column(self, scope: Scope, name: str, path: str) -> set[Origin]:
        """Origins of a scope's column, or of the field `path` in it."""
        key = (id(scope), name, path)
        if key not in self._found:
            self._found[key] = set()  # of a recursive CTE: what is known so far
            self._found[key] = _greatest(self._column(scope, name, path))
        return self._found[key]

    def rows(self, root: Scope) -> set[Origin]:
        """Origins of what decides which rows a query has."""
        return _greatest(
            _less(o, How.deciding) for scope in root.traverse() for o in self._rows(scope)
        )

    def _rows(self, scope: Scope) -> Iterator[Origin]:
        for part in _deciders(scope.expression):
            yield from self._value(scope, part, "")
        # Of what is distinct, each value decides.
        if scope.expression.args.get("distinct") or isinstance(
            scope.expression, exp.Except | exp.Intersect
        ):
            for name in _names(scope):
                yield from self.column(scope, name, "")

    def _column(self, scope: Scope, name: str, path: str) -> Iterator[Origin]:
        if scope.set_operation_scopes:
            names = _names(scope)
            for each in scope.set_operation_scopes:
                if name in names and names.index(name) < len(_names(each)):
                    yield from self.column(each, _names(each)[names.index(name)], path)
        elif isinstance(scope.expression, exp.Query):
            for select in scope.expression.selects:
                if select.alias_or_name == name:
                    yield from self._value(scope, select.unalias(), path)
        else:  # rows that a function makes of a value
            for value in scope.expression.args.get("expressions") or [scope.expression.this]:
                for origin in self._value(scope, value, path):
                    yield _less(origin, How.changed)

    def _value(self, scope: Scope, node: exp.Expr, path: str) -> Iterator[Origin]:
        if isinstance(node, exp.Column):
            source = _source(scope, node.table)
            if isinstance(source, Scope):
                yield from self.column(source, node.name, path)
            elif isinstance(source, exp.Table):
                yield Origin(f"{source.db}.{source.name}", node.name + path)
            return
        if isinstance(node, exp.Query | exp.Subquery):
            inner = node.unnest()
            for each in scope.subquery_scopes:
                if each.expression is inner:
                    for name in _names(each):
                        yield from self.column(each, name, path)
                    yield from self.rows(each)
            return
        if fields := _fields(node):
            for field in fields:
                for origin in self._value(scope, node.this, field + path):
                    yield _less(origin, How.changed)
            return
        for step, part in _parts(node):
            for origin in self._value(scope, part, path):
                yield _less(origin, step)


def _source(scope: Scope | None, name: str) -> exp.Table | Scope | None:
    """What a name stands for; a subquery sees what is around it."""
    while scope is not None:
        if name in scope.sources:
            return scope.sources[name]
        scope = scope.parent
    return None


def _deciders(query: exp.Expr) -> Iterator[exp.Expr]:
    clauses = ["where", "group", "having", "qualify"]
    if query.args.get("limit"):
        clauses.append("order")
    yield from (query.args[clause] for clause in clauses if query.args.get(clause))
    yield from (on for join in query.args.get("joins") or [] if (on := join.args.get("on")))


def _parts(node: exp.Expr) -> Iterator[tuple[How, exp.Expr]]:
    """What an expression is made of, and what it does with it."""
    if isinstance(node, exp.If | exp.Case):
        yield from ((How.deciding, part) for part in [node.this] if part)
        branches = node.args.get("ifs") or []
        yield from ((How.deciding, branch.this) for branch in branches)
        yield from ((How.same, branch.args["true"]) for branch in branches)
        yield from (
            (How.same, node.args[arg]) for arg in ("true", "false", "default") if node.args.get(arg)
        )
    elif isinstance(node, exp.Window):
        yield How.same, node.this
        yield from ((How.deciding, part) for part in node.args.get("partition_by") or [])
        if order := node.args.get("order"):
            yield How.deciding, order
    elif isinstance(node, exp.Filter):
        yield How.same, node.this
        yield How.deciding, node.expression
    elif isinstance(node, exp.ArgMax | exp.ArgMin):
        yield How.aggregated, node.this
        yield How.deciding, node.expression
    else:
        step = How.changed
        if isinstance(node, exp.AggFunc):
            step = How.aggregated
        elif isinstance(node, exp.Paren | exp.Alias | exp.Lambda):
            step = How.same
        yield from ((step, part) for part in node.iter_expressions())


def _fields(node: exp.Expr) -> list[str]:
    """The field that an expression takes out of JSON, or out of a line by its name or names."""
    if isinstance(node, exp.JSONExtract | exp.JSONExtractScalar):
        path = node.expression
        keys = path.find_all(exp.JSONPathKey) if isinstance(path, exp.JSONPath) else ()
        field = "".join(f".{key.this}" for key in keys)
        return [field] if field else []
    if isinstance(node, exp.Bracket):
        places = [each.expression for each in node.find_all(exp.ArrayPosition)] + [
            each.expressions[-1]
            for each in node.find_all(exp.Anonymous)
            if each.name.lower() in ("list_position", "list_indexof")
        ]
        names = [
            each.this
            for each in [*node.expressions, *places]
            if isinstance(each, exp.Literal) and each.is_string
        ]
        return [f".{name}" for name in dict.fromkeys(names)]
    return []


def _less(origin: Origin, step: How) -> Origin:
    return Origin(origin.table, origin.column, max(origin.how, step))


def _greatest(found: Iterator[Origin]) -> set[Origin]:
    """One for each column: a value that is in the result did not only decide about it."""
    kept: dict[tuple[str, str], Origin] = {}
    for origin in found:
        held = kept.setdefault((origin.table, origin.column), origin)
        if held.how is How.deciding or held.how < origin.how < How.deciding:
            kept[origin.table, origin.column] = origin
    return set(kept.values())
