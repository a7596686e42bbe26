"""The subject in the lines of CSV files: macros/governance/line_subject.sql in Python.

Both must agree (python/tests/test_erase_lines.py): a file rewritten here and its lines rewritten in
the lake stay the same lines.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lakebed.erase.policy import LineRule

_FIELD = re.compile(r'("(?:[^"]|"")*"|[^,]*),')
_LOOSE = re.compile(r'[,;|\t"]')


def fields(line: str) -> list[str]:
    """Fields of a CSV line, as `csv_fields` splits it."""
    if '"' not in line:
        return line.split(",")
    found = _FIELD.findall(line + ",")
    return [f[1:-1].replace('""', '"') if f.startswith('"') else f for f in found]


def joined(values: list[str]) -> str:
    """A line of fields; those that need quotes get them."""
    return ",".join(
        '"' + value.replace('"', '""') + '"' if "," in value or '"' in value else value
        for value in values
    )


def position(header: list[str], names: list[str]) -> int | None:
    """Where the first of `names` that the header has stands."""
    return next((header.index(name) for name in names if name in header), None)


def rewritten(
    line: str, header: list[str], rule: LineRule, is_erased: Callable[[str], bool]
) -> str | None:
    """The line without the subject: '' when it must go, None when it is not the subject's."""
    values = fields(line)
    if len(values) != len(header):
        # Nothing says which field is which: any of them may be the key, and the line goes.
        return "" if any(is_erased(part.strip(" ")) for part in _LOOSE.split(line)) else None
    place = position(header, rule.fields)
    if place is None or not is_erased(values[place]):
        return None
    if rule.replace is None:
        return ""
    for names, text in rule.replace:
        if (where := position(header, names)) is not None:
            values[where] = text
    return joined(values)
