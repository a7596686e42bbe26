"""The fields that a source's records have had, so that new ones, and new types, are noticed."""

from __future__ import annotations

import json
from collections.abc import Iterable

#: The JSON types that each field has had; null is none.
Fields = dict[str, list[str]]
#: Names beyond that many are data, not fields, and are not kept.
MOST = 500

_TYPES = {str: "text", bool: "boolean", int: "number", float: "number", dict: "object"}


def noticed(known: Fields, texts: Iterable[str]) -> tuple[Fields, list[str]]:
    """The fields of these records and of all before, and what is new in words.

    Of the first records everything is new, and nothing is said.
    """
    fields = {name: list(types) for name, types in known.items()}
    for text in texts:
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            continue  # the DLQ says why
        if not isinstance(content, dict):
            continue
        for name, value in content.items():
            if name not in fields and len(fields) >= MOST:
                continue
            types = fields.setdefault(name, [])
            kind = _TYPES.get(type(value), "list")
            if value is not None and kind not in types:
                types.append(kind)
    if not known:
        return fields, []
    news = [
        f"a new field {name!r} ({' or '.join(types) or 'null'})"
        for name, types in fields.items()
        if name not in known
    ]
    news += [
        f"{name!r} may be {kind} now, and was {' or '.join(known[name])}"
        for name, types in fields.items()
        if known.get(name)
        for kind in types
        if kind not in known[name]
    ]
    return fields, news
