"""Column lineage against the database itself: what changes when a column changes."""

from __future__ import annotations

from collections.abc import Callable

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lakebed.lineage.columns import How, NotUnderstood, Origin, origins

PROVES = ["pat-lineage-capture"]

KNOWN = {"raw.t": ["a", "b", "c"], "raw.u": ["a", "d"]}
COLUMNS = [(table, column) for table, columns in KNOWN.items() for column in columns]


def of(sql: str, dialect: str = "duckdb") -> dict[str, list[tuple[str, str]]]:
    """Columns of a query: what each is made of, and how."""
    return {
        name: sorted((f"{o.table.removeprefix('raw.')}.{o.column}", o.how.name) for o in made_of)
        for name, made_of in origins(sql, dialect, KNOWN).columns.items()
    }


class Draft:
    """A query of CTEs, drawn at random; each has the columns x, y, z."""

    def __init__(self, draw: Callable[[st.SearchStrategy[object]], object]) -> None:
        self.draw = draw
        self.steps: list[str] = []
        self.sources = [("raw.t", ["a", "b", "c"]), ("raw.u", ["a", "d"])]

    def one(self, *values: str) -> str:
        return str(self.draw(st.sampled_from(values)))

    def value(self, columns: list[str], depth: int = 2) -> str:
        kind = self.one("column", "column", "sum", "case", "coalesce", "scalar", "number", "cast")
        if depth == 0 or kind == "column":
            return self.one(*columns)

        def inner() -> str:
            return self.value(columns, depth - 1)

        if kind == "sum":
            return f"({inner()} {self.one('+', '-', '*')} {inner()})"
        if kind == "case":
            then, otherwise = inner(), inner()
            if self.one("searched", "simple") == "simple":
                return f"(case {inner()} when {inner()} then {then} else {otherwise} end)"
            return f"(case when {inner()} > {inner()} then {then} else {otherwise} end)"
        if kind == "coalesce":
            return f"coalesce(nullif({inner()}, {inner()}), {inner()})"
        if kind == "scalar":
            outer = self.one(*columns)
            return self.one(
                "(select max(i.d) from raw.u as i)",
                f"(select max(i.d) from raw.u as i where i.a = {outer})",
                f"(case when exists (select 1 from raw.u as i where i.d > {outer}) then 1 end)",
                f"(case when {outer} in (select d from raw.u) then 1 else 0 end)",
            )
        return "7" if kind == "number" else f"cast({inner()} as bigint)"

    def step(self, number: int) -> None:
        name, (source, columns) = (
            f"s{number}",
            self.sources[
                self.draw(st.integers(0, len(self.sources) - 1))  # type: ignore[index]
            ],
        )
        other, others = self.sources[self.draw(st.integers(0, len(self.sources) - 1))]  # type: ignore[index]
        kind = self.one("plain", "filter", "group", "window", "join", "union", "distinct", "star")
        x, y, z = (self.value(columns) for _ in "xyz")
        if kind == "plain":
            sql = f"select {x} as x, {y} as y, {z} as z from {source}"
        elif kind == "filter":
            sql = (
                f"select {x} as x, {y} as y, {z} as z from {source} where {self.value(columns)} > 1"
            )
        elif kind == "group":
            x, some = self.one(*columns), self.value(columns)
            sql = (
                f"select {x} as x, {self.one('sum', 'min', 'count')}({y}) as y,"
                f" max({z}) filter (where {some} > 0) as z from {source} group by {x}"
                + self.one("", f" having count({y}) > 1")
            )
        elif kind == "window":
            part, order = self.value(columns), self.value(columns)
            sql = (
                f"select {x} as x, sum({y}) over (partition by {part} order by {order}) as y,"
                f" rank() over (order by {z}) as z from {source}"
                + self.one("", f" qualify rank() over (order by {order}) < 4")
            )
        elif kind == "join":
            left, right = ([f"l.{c}" for c in columns], [f"r.{c}" for c in others])
            both = left + right
            sql = (
                f"select {self.value(both)} as x, {self.value(both)} as y, {self.value(both)} as z"
                f" from {source} as l {self.one('join', 'left join', 'full join')} {other} as r"
                f" on {self.value(left, 1)} = {self.value(right, 1)}"
            )
        elif kind == "union":
            p, q, r = (self.value(others) for _ in "pqr")
            sql = (
                f"select {x} as x, {y} as y, {z} as z from {source}"
                f" {self.one('union all', 'union', 'except', 'intersect')}"
                f" select {p}, {q}, {r} from {other}"
            )
        elif kind == "distinct":
            sql = f"select distinct {x} as x, {y} as y, 1 as z from {source}"
        else:
            sql = f"select * exclude ({columns[0]}), {x} as x, {y} as y, {z} as z from {source}"
            found = list(dict.fromkeys([*columns[1:], "x", "y", "z"]))
            if len(found) != len(columns) + 2:  # it would have a name twice
                sql = f"select {x} as x, {y} as y, {z} as z from (select * from {source})"
                found = ["x", "y", "z"]
            self.steps.append(f"{name} as ({sql})")
            self.sources.append((name, found))
            return
        self.steps.append(f"{name} as ({sql})")
        self.sources.append((name, ["x", "y", "z"]))


@st.composite
def queries(draw: Callable[[st.SearchStrategy[object]], object]) -> str:
    draft = Draft(draw)
    for number in range(int(str(draw(st.integers(1, 4))))):
        draft.step(number)
    return f"with {', '.join(draft.steps)} select * from {draft.sources[-1][0]}"


def results(query: str, changed: tuple[str, str] | None) -> dict[str, list[str]]:
    """Each column's values, sorted; with other values in one column of the tables."""
    with duckdb.connect() as connection:
        connection.execute("create schema raw")
        for table, columns in KNOWN.items():
            cells = []
            for place, column in enumerate(columns):
                value = f"(i * {place + 3} + {place}) % 5"
                if changed == (table, column):
                    value = f"(i * 7 + 2) % 4 - {place}"
                cells.append(f"cast({value} as bigint) as {column}")
            connection.execute(
                f"create table {table} as select {', '.join(cells)} from range(9) r(i)"
            )
        done = connection.execute(query)
        names = [each[0] for each in done.description or ()]
        rows = done.fetchall()
        return {name: sorted(repr(row[at]) for row in rows) for at, name in enumerate(names)}


@given(query=queries())
@settings(max_examples=100, deadline=None)
def test_what_changes_is_named(query: str) -> None:
    """A column that changes when another changes is made of it, or has other rows for it."""
    try:
        before = results(query, None)
    except duckdb.Error:
        return  # such as an overflow
    found = origins(query, "duckdb", KNOWN)
    assert list(found.columns) == list(before)
    deciding = {(each.table, each.column) for each in found.rows}
    for table, column in COLUMNS:
        try:
            after = results(query, (table, column))
        except duckdb.Error:
            continue
        for name, values in after.items():
            if values != before[name]:
                named = {(each.table, each.column) for each in found.columns[name]}
                assert (table, column) in named | deciding, (name, table, column)


def test_how_a_value_is_used() -> None:
    assert of(
        """
        with kept as (
            select a, b + 1 as more, case when c > 1 then b else 0 end as chosen
            from raw.t
            where c > 0
        )
        select
            a,
            more,
            chosen,
            sum(more) over (partition by a) as running,
            'x' as constant,
            (select max(d) from raw.u where u.a = kept.a) as newest
        from kept
        """
    ) == {
        "a": [("t.a", "same")],
        "more": [("t.b", "changed")],
        "chosen": [("t.b", "same"), ("t.c", "deciding")],
        "running": [("t.a", "deciding"), ("t.b", "aggregated")],
        "constant": [],
        "newest": [("t.a", "deciding"), ("u.a", "deciding"), ("u.d", "aggregated")],
    }


def test_rows_are_decided_by_filters_joins_and_groups() -> None:
    found = origins(
        "select t.b, count(*) as n from raw.t join raw.u on t.a = u.a where c > 1 group by t.b",
        "duckdb",
        KNOWN,
    )
    assert {(o.table, o.column) for o in found.rows} == {
        ("raw.t", "a"),
        ("raw.u", "a"),
        ("raw.t", "c"),
        ("raw.t", "b"),
    }
    assert found.columns["n"] == set()


@pytest.mark.parametrize(
    ("dialect", "json", "field"),
    [
        (
            "duckdb",
            "json_extract_string(a, '$.after.price')",
            "f[coalesce(list_position(string_split(b, ','), 'price'),"
            " list_position(string_split(b, ','), 'cost'), 0)]",
        ),
        (
            "spark",
            "get_json_object(a, '$.after.price')",
            "try_element_at(f, coalesce(nullif(array_position(split(b, ','), 'price'), 0),"
            " nullif(array_position(split(b, ','), 'cost'), 0)))",
        ),
    ],
)
def test_fields_of_records_are_columns(dialect: str, json: str, field: str) -> None:
    split = "string_split(c, ',')" if dialect == "duckdb" else "split(c, ',')"
    sql = f"""
        with parts as (select a, b, {split} as f from raw.t)
        select cast({json} as decimal(12, 2)) as price, trim({field}) as cost from parts
    """
    found = of(sql, dialect)
    assert found["price"] == [("t.a.after.price", "changed")]
    assert found["cost"] == [("t.c.cost", "changed"), ("t.c.price", "changed")]


def test_what_is_not_sql_is_said() -> None:
    for nonsense in ("select from where", "", "drop table t", "select " + "(" * 40):
        with pytest.raises(NotUnderstood):
            origins(nonsense, "duckdb", KNOWN)


def test_tables_that_nobody_described() -> None:
    found = origins(
        "select a, (select newest from ops.marks where model = 'm') as n from raw.t",
        "duckdb",
        KNOWN,
    )
    assert found.columns["n"] == {
        Origin("ops.marks", "newest"),
        Origin("ops.marks", "model", How.deciding),
    }
