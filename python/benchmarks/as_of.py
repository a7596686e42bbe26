"""`lakebed.join_as_of` against a join on a range, and against DuckDB's ASOF by hand."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import duckdb
from lakebed.errors import UserError

from benchmarks.measure import Result, Variant, compared, compiled, interleaved

CALL = "'asks', 'versions', ['id'], 'asked_at', 'valid_from', ['price']"
FORMS = {
    # As the manual has it: NULL keys match each other, and a NULL is the latest time.
    "ASOF by hand": """
        select asks.*, versions.price from asks asof left join versions
        on asks.id = versions.id and asks.asked_at >= versions.valid_from""",
    # Without `or valid_to is null`: with it DuckDB compares all rows with all, for hours here.
    "join on a range": """
        select asks.*, versions.price from asks left join versions
        on asks.id = versions.id and asks.asked_at >= versions.valid_from
        and asks.asked_at < coalesce(versions.valid_to, timestamp '9999-12-31')""",
}
TOTALS = "select count(*), count(price), sum(price) from"


def tables(asks: int, versions: int, each: int) -> dict[str, str]:
    """`asks` events over a year and `versions` in all, `each` of every key. DuckDB's SQL."""
    return {
        "asks": f"""
            select i as ask, hash(i) % {versions // each} as id,
                timestamp '2024-01-01' + to_seconds((hash(i + 1) % 31622400)::bigint) as asked_at
            from range({asks}) as r (i)""",
        "versions": f"""
            select i // {each} as id, price, valid_from,
                lead(valid_from) over (partition by i // {each} order by i) as valid_to
            from (
                select i, hash(i) % 1000 as price, timestamp '2023-12-01'
                    + to_seconds(((i % {each}) * 31622400) // {each}) as valid_from
                from range({versions}) as r (i)
            )""",
    }


def on_duckdb(home: Path, each: int, repeats: int) -> list[Variant]:
    connection = duckdb.connect()
    connection.execute("set threads = 2")
    for name, sql in tables(10_000_000, 1_000_000, each).items():
        connection.execute(f"create table {name} as {sql}")
    forms = {"lakebed.join_as_of": compiled(home, f"{{{{ lakebed.join_as_of({CALL}) }}}}"), **FORMS}
    answers = {
        connection.execute(f"{TOTALS} ({form}) as joined").fetchone() for form in forms.values()
    }
    assert len(answers) == 1, answers

    def create(form: str) -> None:
        connection.execute(f"create or replace temp table result as {form}")

    work = {f"{name}, {each} versions a key": partial(create, form) for name, form in forms.items()}
    return compared("", "", interleaved(work, repeats, warm_up=False)).variants


def on_spark(home: Path, each: int, repeats: int) -> list[Variant]:
    from lakebed.spark.settings import session

    files = {name: home / f"{name}.parquet" for name in ("asks", "versions")}
    with duckdb.connect() as connection:
        for name, sql in tables(2_000_000, 200_000, each).items():
            connection.execute(f"copy ({sql}) to '{files[name]}'")
    call = f"{{{{ lakebed.join_as_of({CALL}) }}}}"
    forms = {
        "lakebed.join_as_of": compiled(home, call, "spark_local"),
        "join on a range": FORMS["join on a range"],
    }
    with session(home / "spark") as spark:
        for name, file in files.items():
            spark.read.parquet(str(file)).createOrReplaceTempView(name)
        answers = {tuple(spark.sql(f"{TOTALS} ({form})").first()) for form in forms.values()}
        assert len(answers) == 1, answers

        def write(form: str) -> None:
            spark.sql(form).write.format("noop").mode("overwrite").save()

        work = {
            f"Spark: {name}, {each} versions a key, a fifth of the rows": partial(write, form)
            for name, form in forms.items()
        }
        return compared("", "", interleaved(work, repeats, warm_up=False)).variants


def measure(home: Path, repeats: int = 1) -> Result:
    variants = [*on_duckdb(home, 100, repeats), *on_duckdb(home, 2, repeats)]
    try:
        variants += on_spark(home, 100, repeats)
    except UserError as error:
        variants.append(Variant("Spark", [0], 0, str(error)))
    question = "10 M events, 1 M versions: what held at each event's time? (ratios within a group)"
    return Result("as_of", question, variants)
