"""What erasure reads in records of streams, and what it makes of them, on both engines."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from harness import DbtProject
from lakebed.spark.cluster import Cluster

PROVES = ["pat-gdpr-erase"]

KEY = "cust-1"
RECORDS = [
    '{"user": {"id": "cust-1", "mail": "a", "x": [1, {"y": null}]}, "n": 12345678901234567}',
    '{"user": {"id": 1.5}, "mail": "it\'s \\"quoted\\" \\\\ é漢👍", "n": -0.00000001}',
    '{"user": "cust-1", "n": null}',
    '{"user": null, "mail": true}',
    "{}",
    "[]",
    "[1, 2]",
    '"cust-1"',
    "null",
    "12",
    '{"user": {"id": "cust-1"',  # cut off after the key
    '{"user": {"id": "cust-1"}} and more',
    '{"a": 1}] ["cust-1"',
    '{"a": 1}, "cust-1"',
    '1} {"cust-1": 1',
    "1, 2] cust-1",
    "id=cust-1&mail=a",
    "cust-11 xcust-1 cust-1x",
    "",
    '{"user.id": "cust-1", "user": {"id": " cust-1 "}}',
    '{"a": "\\u0063ust-1"}',
]
PATCHES: list[dict[str, Any]] = [
    {"user": {"id": "erased", "mail": None}, "mail": None},
    {"n": 0, "user": None},
    {"user": {"id": {"deep": [1, "it's \\ é"]}, "gone": None}},
    {"a b": "", "ä": False},
]
#: No text: an invalid byte before the key, and the key in Avro and Protobuf.
BYTES = [
    b"\xff\xfecust-1",
    b"\xffcust-1\x80",
    b"\x00\x0ccust-1",
    b"\x06cust-1",
    b"\x07cust-1",
    b"\xff",
]


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396."""
    if not isinstance(patch, dict):
        return patch
    found = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        else:
            found[name] = merged(found.get(name), value)
    return found


def without_nulls(found: Any) -> Any:
    """DuckDB leaves those of a patch where there was no object."""
    if isinstance(found, dict):
        return {name: without_nulls(each) for name, each in found.items() if each is not None}
    return found


def loaded(text: str) -> Any:
    return json.loads(text, parse_float=Decimal)


def field(text: str) -> str | None:
    found = loaded(text)
    for name in ("user", "id"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, str | None) else str(found)


def is_json(text: str) -> bool:
    try:
        loaded(text)
    except ValueError:
        return False
    return True


def test_records(engine: Cluster | None, tmp_path: Path) -> None:
    rows = ", ".join(
        f"({number}, {{{{ lakebed.text_literal({text!r}) }}}})"
        for number, text in enumerate(RECORDS)
    )
    binary = ", ".join(f"({number}, '{raw.hex()}')" for number, raw in enumerate(BYTES))
    patched = ", ".join(
        f"case when {{{{ lakebed.is_json('record') }}}} then"
        f" {{{{ lakebed.json_patched('record', {patch!r}) }}}} end as patched_{number}"
        for number, patch in enumerate(PATCHES)
    )
    names = f"lakebed.record_names_any(['record'], ['{KEY}'], 'string')"
    files = {
        "models/records.sql": f"select id, {{{{ lakebed.is_json('record') }}}} as is_json,"
        f" {{{{ lakebed.json_field('record', 'user.id') }}}} as field, {{{{ {names} }}}} as named,"
        f" {patched} from (values {rows}) as t (id, record)",
        "models/bytes.sql": f"select id, {{{{ {names} }}}} as named,"
        f" {{{{ lakebed.bytes_hold_any('record', lakebed.counted_texts('{KEY}')) }}}} as counted"
        f" from (select id, unhex(digits) as record from (values {binary}) as t (id, digits)) as t",
    }
    project = DbtProject(tmp_path, files, cluster=engine)
    project.run("run")
    found = project.table("select * from records order by id")[1]
    for text, row in zip(RECORDS, found, strict=True):
        assert row[1] == is_json(text), text
        named = "cust-1" in text and not text.startswith("cust-11")
        assert row[3] == named, text
        if row[1]:
            assert row[2] == field(text), text
            for patch, made in zip(PATCHES, row[4:], strict=True):
                expected = merged(loaded(text), patch)
                assert without_nulls(loaded(made)) == without_nulls(expected), (text, patch)
        else:
            assert row[2:3] + row[4:] == (None,) * 5
    found = project.table("select named, counted from bytes order by id")[1]
    assert [row[1] for row in found] == [False, False, True, True, False, False]
    assert [row[0] for row in found][:2] == [True, True]
