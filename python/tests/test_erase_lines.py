"""What erasure does to the lines of a file and to the same lines in the lake is the same."""

from __future__ import annotations

import random
from pathlib import Path

import duckdb
import pytest
from harness import DbtProject
from lakebed.erase.hashing import normal
from lakebed.erase.lines import rewritten
from lakebed.erase.policy import LineRule

PROVES = ["pat-gdpr-erase"]

ROWS = 20_000
#: The subjects that are erased, by the type of their key.
ERASED = {"string": ["ada", "o'hara, j", 'the "x"'], "bigint": ["7", "-12"]}
PIECES = [
    *("ada", " ada ", "Ada", "adam", "o'hara, j", 'the "x"', "7", "07", " 7", "+7", "77", "-12"),
    *("", "", "x", "ä;ada", "a|b", "7;8", "1.0", "ada\tx", '"', "é" * 3),
]
HEADERS = ["id,name,who", "who,name", "name,id", '"who",id,name', "customer,x,name", "x"]
REPLACE = [(["name", "customer"], ""), (["who"], 'no, "one"')]

SQL = """
select
    number,
    {%- set well_formed = lakebed.array_size(lakebed.csv_fields('_record')) ~ ' = '
        ~ lakebed.array_size(lakebed.csv_fields('_header')) %}
    case
        when {{ well_formed }} then
            case
                when {{ lakebed.normal_key(lakebed.csv_field(lakebed.csv_fields('_record'),
                    lakebed.csv_fields('_header'), ['who', 'customer']), 'KIND') }} in (KEYS)
                    then {{ lakebed.csv_with('_record', '_header', REPLACE) }}
            end
        when {{ lakebed.any_part('_record', lakebed.normal_key('part', 'KIND') ~ " in (KEYS)") }}
            then ''
    end as line
from lines
"""


def field(generator: random.Random) -> str:
    text = generator.choice(PIECES)
    if generator.random() < 0.15 or "," in text:
        return '"' + text.replace('"', '""') + '"'
    return text


@pytest.mark.parametrize("kind", list(ERASED))
def test_both_rewrite_a_line_the_same(tmp_path: Path, kind: str) -> None:
    generator = random.Random(11)
    lines = []
    for number in range(ROWS):
        header = generator.choice(HEADERS)
        width = header.count(",") + 1 + (generator.random() < 0.2) * generator.choice([-1, 1])
        record = ",".join(field(generator) for _ in range(max(width, 1)))
        if record.strip():
            lines.append((number, header, record))
    keys = ", ".join("'" + key.replace("'", "''") + "'" for key in ERASED[kind])
    text = SQL.replace("KIND", kind).replace("REPLACE", repr([list(each) for each in REPLACE]))
    text = text.replace('" in (KEYS)"', repr(f" in ({keys})")).replace("KEYS", keys)
    project = DbtProject(tmp_path / "project", {"analyses/lines.sql": text})
    project.run("compile")
    with duckdb.connect() as connection:
        connection.execute("create table lines (number int, _header text, _record text)")
        connection.executemany("insert into lines values (?, ?, ?)", lines)
        in_lake = dict(connection.execute(project.compiled("analyses/lines.sql")).fetchall())
    rule = LineRule(["who", "customer"], kind, REPLACE)
    changed = 0
    for number, header, record in lines:
        in_file = rewritten(
            record,
            [name.strip('"') for name in header.split(",")],
            rule,
            lambda part: normal(part, kind) in ERASED[kind],
        )
        assert in_lake[number] == in_file, (header, record)
        changed += in_file is not None
    assert ROWS / 20 < changed < ROWS / 2
