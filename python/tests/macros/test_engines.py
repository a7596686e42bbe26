"""The engine macros: each expression has the same value on DuckDB and on Spark, row by row.

The rows are chosen from odd values and mixed by a seeded generator; the macros are compiled by dbt
for each engine, and both engines read one Parquet file.
"""

from __future__ import annotations

import itertools
import random
import re
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import DbtProject
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session

pytestmark = pytest.mark.spark
PROVES = ["pat-idempotent", "pat-medallion-lakehouse", "pat-temporal-joins"]

ROWS = 1500
SEED = 20

TEXTS = [
    *("", " ", "a", "A", "abc", "ä", "ß", "İ", "漢字", "👍", "it's", 'a"b', "C:\\dir", "\\d", "1d"),
    *(
        "%",
        "_",
        "50%",
        "a_b",
        "a\nb",
        "a\n",
        "\t",
        "NULL",
        "~",
        "|",
        "~1",
        "x,y",
        "e\u0301",
        None,
        *("Ä", "a\rb", "a$"),
    ),
]
#: What people and programs write where a typed value belongs.
WRITTEN = [
    *TEXTS,
    *("0", "-0", "+7", "007", "3.7", ".5", "5.", "1e3", "1E-3", "1.005e0", "5.551115e-17", "1_000"),
    *("1,000", "12345678901234567890", "99999999999.995", "2.345", "2.355", "-2.345", "1.005"),
    *("NaN", "inf", "-Infinity", "0x1F", "1f", "1.5d", "10L", "١٢", "1 2", " 8", "--1", "1e400"),
    *("true", "FALSE", "t", "F", "yes", "no", "y", "N", "on", "off", "1.0"),
    *("2024-02-29", "2023-02-29", "2024-2-9", "2024-13-01", "2024-00-10", "24-01-05", "20240105"),
    *("0001-01-01", "9999-12-31", "10000-01-01", "-2024-01-01", "0000-01-01", "today", "epoch"),
    *("2024", "2024-01", "12:30", "T12:30", "2024-01-05T", "2024-01-05 1:02:03", "1/5/2024"),
    *("01/05/2024", "13/01/2024", "02/30/2024", "1/5/24", "01/05/2024 10:11:12", "1/5/2024 1:2:3"),
    *("2024-01-05 10:11", "2024-01-05 10:11:12", "2024-01-05T10:11:12", "2024-01-05T10:11:12Z"),
    *("2024-01-05 10:11:12.5", "2024-01-05 10:11:12.123456", "2024-01-05 10:11:12.1234567"),
    *("2024-01-05 24:00:00", "2024-01-05 23:59:60", "2024-01-05 10:11:12+02:00", "infinity"),
    *("2024-01-05 10:11:12-0530", "2024-01-05 10:11:12+02", "2024-01-05 10:11:12 UTC", "2024-366"),
    # The first and last moments of the years 0001 to 9999 since 1970, and their neighbours.
    *("-62135596800000000", "-62135596800000001", "253402300799999999", "253402300800000000"),
    *("-62135596800000", "-62135596800001", "253402300799999", "253402300800000"),
    *("-719162", "-719163", "2932896", "2932897", "999999999999999999", "9999999999999999999"),
    *("2024-01-05 10:11:12 Europe/Berlin", "2024-01-05 10:11:12+19:00", "2024-01-05 AD", "now"),
]
EPOCHS = {"days": 86_400_000_000, "ms": 1000, "us": 1}  # microseconds
FIELDS = ["", "a", " b ", '"q"', '"a,b"', '"say ""hi"""', '""', "ü", "漢", "1.5", "a b", "'"]
PATTERNS = {
    "digits": (r"^\d+$", ""),
    "empty": ("", ""),
    "star": ("x*", ""),
    "letters": ("^[a-c]+$", "i"),
    "backslash": (r"^C:\\\w+", ""),
    "quote": ("'", ""),
    "lines": ("^b$", "m"),
    "dot": ("^a.b$", "s"),
    "no_dot": ("^a.b$", ""),
    "fold": ("^[ä]$", "i"),
    "class": (r"[$\\]|\$", ""),
    "end": ("(a|dir)$|b$", ""),
}
LIKES = {
    **{"percent": r"50\%", "under": r"a\_b", "any": "a%", "one": "_", "back": "%\\\\%"},
    "quote": "%'%",
}
PARTS = ["hour", "day", "week", "month", "quarter", "year"]
TYPES = [
    *("int", "bigint", "decimal(12,2)", "decimal(18,4)", "double", "boolean", "date", "timestamp"),
]
AMERICAN = "['%m/%d/%Y', '%m/%d/%Y %H:%M:%S']"


def expressions() -> dict[str, str]:
    """Name of a column: the macro's call."""
    found = {
        "key": "lakebed.surrogate_key(['a', 'b', 'n', 'amount', 'day', 'moment', 'flag'])",
        "text_amount": "lakebed.to_text('amount')",
        "text_moment": "lakebed.to_text('moment')",
        "text_flag": "lakebed.to_text('flag')",
        "date_key": "lakebed.date_key('day')",
        "day_name": "lakebed.day_name('day')",
        "month_name": "lakebed.month_name('day')",
        "weekday": "lakebed.iso_weekday('day')",
        "micros": "lakebed.epoch_micros('moment')",
        "micros_day": "lakebed.epoch_micros('day')",
        "fields": "lakebed.csv_fields('line')",
        "size": "lakebed.array_size(lakebed.csv_fields('line'))",
        "field": "lakebed.csv_field(lakebed.csv_fields('line'), lakebed.csv_fields(\"'x,y,z'\"),"
        " ['none', 'y'])",
        "later_day": "lakebed.epoch_micros(lakebed.add_dateparts('day', 'n', 'moment'))",
        "later_month": "lakebed.epoch_micros(lakebed.add_dateparts('month', 'n', 'moment'))",
        **{
            f"start_{part}": f"lakebed.epoch_micros(lakebed.start_of_datepart('{part}', 'moment'))"
            for part in PARTS
        },
        **{
            f"between_{part}": f"lakebed.dateparts_between('{part}',"
            f" lakebed.start_of_datepart('{part}', 'moment'),"
            f" lakebed.start_of_datepart('{part}', 'day'))"
            for part in PARTS
        },
        **{
            f"regex_{name}": f"lakebed.matches_regex('a', {pattern!r}, {flags!r})"
            for name, (pattern, flags) in PATTERNS.items()
        },
        **{f"like_{name}": f"lakebed.matches_like('a', {like!r})" for name, like in LIKES.items()},
        **{
            f"literal_{number}": f"lakebed.text_literal({text!r})"
            for number, text in enumerate(TEXTS)
            if text is not None
        },
    }
    for data_type in TYPES:
        formats = AMERICAN if data_type in ("date", "timestamp") else "[]"
        call = f"lakebed.parse_value('written', '{data_type}', {formats})"
        if data_type in ("date", "timestamp"):
            call = f"lakebed.epoch_micros({call})"
        found[f"parse_{data_type.translate(str.maketrans('(,)', '___'))}"] = call
    for unit in EPOCHS:
        for data_type in ("date", "timestamp"):
            call = f"lakebed.parse_value('written', '{data_type}', ['epoch_{unit}'])"
            found[f"epoch_{unit}_{data_type}"] = f"lakebed.epoch_micros({call})"
    return found


AGGREGATES = {
    "median": "lakebed.percentile('amount', 0.5)",
    "tenth": "lakebed.percentile('n', 0.1)",
}
FILES = {
    "models/engine_row.sql": "select\n    id,\n"
    + ",\n".join(f"    {{{{ {call} }}}} as {name}" for name, call in expressions().items())
    + "\nfrom engine_values",
    "models/engine_group.sql": "select\n    grp,\n"
    + ",\n".join(f"    {{{{ {call} }}}} as {name}" for name, call in AGGREGATES.items())
    + "\nfrom engine_values group by grp",
    "models/engine_days.sql": "select {{ lakebed.epoch_micros('date_day') }} as day from ("
    "{{ lakebed.date_spine('2023-12-30', '2024-03-02') }}) as days",
    "models/engine_steps.sql": "select id, {{ lakebed.steps_below('n', 3) }} as step"
    " from engine_values where n < 20",
    "models/engine_first.sql": "{{ lakebed.deduplicate('engine_values', ['grp', 'a'],"
    " 'moment desc nulls last, id', null_keys='group', unique_order=true) }}",
    "models/engine_gap.sql": "select id from ({{ lakebed.deduplicate_within('engine_values',"
    " ['grp'], 'moment', 86400, order_by='id') }}) as kept",
    "models/engine_tumbling.sql": "select id from ({{ lakebed.deduplicate_within('engine_values',"
    " ['grp'], 'moment', 86400, mode='tumbling', order_by='id', null_keys='group') }}) as kept",
    "models/engine_as_of.sql": "{{ lakebed.join_as_of('engine_values', 'engine_values', 'grp',"
    " 'moment', 'moment', ['id as other', \"a || 'x' as text\"], strict=true,"
    " right_order='id desc') }}",
    "models/engine_version.sql": "with versions as (select grp, b, moment as since, id as version,"
    " case when n < 20 then day end as until_day from engine_values)"
    " {{ lakebed.join_as_of('engine_values', 'versions', ['grp', 'b'], 'day', 'since', 'version',"
    " right_until='until_day', how='inner', right_order='version') }}",
    "models/engine_scd2.sql": "with history as ({{ lakebed.scd2_from_changes('engine_values',"
    " ['grp'], ['a', 'amount'], 'moment', order_by=['id'], deleted='flag') }})"
    " select v.id, history.a, history.valid_from from engine_values as v left join history"
    " on {{ lakebed.scd2_join('v', 'history', 'grp', 'day') }}",
    "models/engine_believed.sql": "{{ lakebed.as_believed('engine_values', ['grp', 'b'],"
    " ['a', 'amount'], 'moment', 'day', \"timestamp '2024-03-01'\", \"timestamp '2020-01-01'\","
    " order_by=['id'], deleted='flag') }}",
    "models/engine_history.sql": "{{ lakebed.scd2_from_changes('engine_values', ['grp'],"
    " ['a', 'amount'], 'moment', order_by=['id'], deleted='flag') }}",
}


def values() -> pa.Table:
    """Each odd value at least once, then mixtures of them."""
    rng = random.Random(SEED)

    def moment() -> datetime | None:
        if rng.random() < 0.1:
            return None
        whole = datetime(1960, 1, 1) + timedelta(seconds=rng.randrange(4 * 10**9))
        return whole.replace(microsecond=rng.choice([0, 0, 500000, 123456]))

    def mutated(text: str) -> str:
        at = rng.randrange(len(text) + 1)
        return text[:at] + rng.choice([*"0123456789-+.:/eETZ ", ""]) + text[at + rng.randrange(2) :]

    rows = []
    for number in range(ROWS):
        written = WRITTEN[number] if number < len(WRITTEN) else rng.choice(WRITTEN)
        if number >= len(WRITTEN) and written:
            written = mutated(written)
        at = moment()
        rows.append(
            {
                "id": number,
                "grp": rng.choice(["a", "ü", "漢", "b", None]),
                "a": TEXTS[number] if number < len(TEXTS) else rng.choice(TEXTS),
                "b": rng.choice(TEXTS),
                "n": rng.choice([None, 0, 1, 7, 12, 40, rng.randrange(100)]),
                "amount": rng.choice([None, Decimal(rng.randrange(-(10**6), 10**6)) / 100]),
                "day": rng.choice([None, at and at.date(), date(2024, 2, 29)]),
                "moment": at,
                "flag": rng.choice([True, False, False, None]),
                "line": ",".join(rng.choice(FIELDS) for _ in range(rng.randrange(1, 6))),
                "written": written,
            }
        )
    schema = pa.schema(
        [
            ("id", pa.int32()),
            ("grp", pa.string()),
            ("a", pa.string()),
            ("b", pa.string()),
            ("n", pa.int32()),
            ("amount", pa.decimal128(12, 2)),
            ("day", pa.date32()),
            ("moment", pa.timestamp("us")),
            ("flag", pa.bool_()),
            ("line", pa.string()),
            ("written", pa.string()),
        ]
    )
    return pa.Table.from_pylist(rows, schema=schema)


Answers = dict[str, tuple[list[str], list[tuple[Any, ...]]]]


@pytest.fixture(scope="module")
def answers(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Answers, Answers, pa.Table]:
    """What each engine answers to each model."""
    folder = tmp_path_factory.mktemp("engines")
    table = values()
    file = folder / "values.parquet"
    pq.write_table(table, file)
    return on_duckdb(folder / "duckdb", file), on_spark(folder / "spark", file, cluster), table


def on_duckdb(folder: Path, file: Path) -> Answers:
    project = DbtProject(folder, FILES)
    project.run("compile")
    found: Answers = {}
    with duckdb.connect() as connection:
        connection.execute(f"create view engine_values as from read_parquet('{file}')")
        for path in FILES:
            result = connection.execute(project.compiled(path))
            found[Path(path).stem] = ([c[0] for c in result.description or []], result.fetchall())
    return found


def on_spark(folder: Path, file: Path, cluster: Cluster) -> Answers:
    project = DbtProject(folder, FILES, cluster=cluster)
    project.run("compile")
    # Parquet's timestamps without a zone are another type on Spark; the project's are UTC.
    columns = ", ".join(
        "cast(moment as timestamp) as moment" if name == "moment" else name
        for name in pq.read_schema(file).names
    )
    found: Answers = {}
    with connect_session(cluster.connect_url) as session:
        session.sql(
            "create or replace temporary view engine_values as"
            f" select {columns} from parquet.`{file}`"
        )
        for path in FILES:
            frame = session.sql(project.compiled(path))
            found[Path(path).stem] = (frame.columns, [tuple(row) for row in frame.collect()])
    return found


@pytest.mark.parametrize("name", expressions())
def test_expression(answers: tuple[Answers, Answers, pa.Table], name: str) -> None:
    duck, spark = (column(answer["engine_row"], name) for answer in answers[:2])
    assert len(duck) == len(spark) == ROWS
    inputs = {row["id"]: row for row in answers[2].to_pylist()}
    wrong = [
        {"duckdb": duck[number], "spark": spark[number], **inputs[number]}
        for number in range(ROWS)
        if duck[number] != spark[number]
    ]
    assert wrong[:8] == [], f"{len(wrong)} rows differ"


def column(answer: tuple[list[str], list[tuple[Any, ...]]], name: str) -> list[Any]:
    """One column's values in the order of id."""
    names, rows = answer
    at = names.index(name)
    return [row[at] for row in sorted(rows)]


def test_values_are_really_parsed(answers: tuple[Answers, Answers, pa.Table]) -> None:
    """Not everything is NULL: what must be a value is one, and what must not be is none."""
    given = answers[2].column("written").to_pylist()

    def parsed(data_type: str) -> dict[str, Any]:
        values = column(answers[0]["engine_row"], f"parse_{data_type}")
        return {text: value for text, value in zip(given, values, strict=True) if text}

    decimals = parsed("decimal_12_2_")
    assert decimals["2.345"] == Decimal("2.35")
    assert decimals["1.005e0"] == Decimal("1.01")
    assert decimals["5.551115e-17"] == 0
    moments, day = parsed("timestamp"), datetime(2024, 1, 5)
    micros = {
        text: (at - datetime(1970, 1, 1)) // timedelta(microseconds=1)
        for text, at in {
            "2024-01-05 10:11:12.5": day.replace(hour=10, minute=11, second=12, microsecond=500000),
            "2024-01-05T10:11:12Z": day.replace(hour=10, minute=11, second=12),
            "2024-01-05 10:11:12+02:00": day.replace(hour=8, minute=11, second=12),
            "1/5/2024 1:2:3": day.replace(hour=1, minute=2, second=3),
            "1/5/2024": day,
        }.items()
    }
    assert {text: moments[text] for text in micros} == micros
    for text in ("12:30", "2024", "now", "today", "epoch", "infinity", "2024-01-05 24:00:00"):
        assert moments[text] is None, text
    for text, expected in {"NaN": None, "inf": None, "1f": None, ".5": 0.5, "1E-3": 0.001}.items():
        assert parsed("double")[text] == expected, text


@pytest.mark.parametrize("unit", list(EPOCHS))
def test_numbers_since_1970(answers: tuple[Answers, Answers, pa.Table], unit: str) -> None:
    given = answers[2].column("written").to_pylist()
    moments = column(answers[0]["engine_row"], f"epoch_{unit}_timestamp")
    days = column(answers[0]["engine_row"], f"epoch_{unit}_date")
    read = 0
    for text, moment, day in zip(given, moments, days, strict=True):
        if text and re.fullmatch(r"[+-]?[0-9]+", text, re.ASCII):
            micros = int(text) * EPOCHS[unit]
            known = len(text.lstrip("+-")) <= 18 and -(719162 * EPOCHS["days"]) <= micros
            known = known and micros < 2932897 * EPOCHS["days"]
            assert moment == (micros if known else None), text
            if not re.fullmatch(r"[0-9]{4}", text):
                assert day == (micros // EPOCHS["days"] * EPOCHS["days"] if known else None), text
            read += known
    assert read > 20


@pytest.mark.parametrize("model", [Path(path).stem for path in list(FILES)[1:]])
def test_rows(answers: tuple[Answers, Answers, pa.Table], model: str) -> None:
    (columns, duck), (spark_columns, spark) = (answer[model] for answer in answers[:2])
    assert columns == spark_columns
    assert len(duck) > 3
    one, two = (sorted(rows, key=repr) for rows in (duck, spark))
    assert [pair for pair in itertools.zip_longest(one, two) if pair[0] != pair[1]][:5] == []
