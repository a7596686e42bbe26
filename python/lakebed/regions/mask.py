"""What may leave a region, as SQL that runs in the region: masks, truncations, allowed JSON paths.

Everything here fails closed: a value that a rule does not understand becomes NULL.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import duckdb

from lakebed.erase.hashing import pads
from lakebed.errors import UserError

PATTERNS = ["pat-multi-region-ingest"]

#: `mask`: keyed HMAC-SHA256. `net`: an IP address without its host (/24, /48).
ACTIONS = ("keep", "drop", "mask", "year", "month", "day", "net")
#: Columns that hold records whole: a field that is new in them would pass unseen.
WHOLE = ("_record", "_line")
_STEP = re.compile(r"[^.\[\]\"'\\$*]+(\[\])*")

#: JSON paths as a tree; a leaf is an action. A name that ends in [] goes through a list.
Tree = dict[str, Any]


def set_key(connection: duckdb.DuckDBPyConnection, key: bytes) -> None:
    """Give a region's connection its key: as variables, so that no statement has it."""
    for name, value in zip(("inner", "outer"), pads(key), strict=True):
        connection.execute(f"set variable lakebed_region_{name} = ?", [value])


def column(name: str, rule: str | Tree) -> str:
    """The expression of a column under its rule, with its name."""
    quoted = f'"{name}"'
    if isinstance(rule, str):
        return f"{_value(quoted, rule)} as {quoted}"
    text = f"cast({quoted} as varchar)"
    rebuilt = f"cast({_object(f'cast({text} as json)', rule, 0)} as varchar)"
    return f"case when json_valid({text}) then {rebuilt} end as {quoted}"


def tree(paths: Mapping[str, Any], where: str) -> Tree:
    """JSON paths such as customer.email and items[].sku, each with an action. Raises UserError."""
    root: Tree = {}
    for path, action in paths.items():
        steps = str(path).split(".")
        if not all(_STEP.fullmatch(step) for step in steps):
            raise UserError(f"{where}: {path!r} is no path such as customer.email or items[].sku.")
        if action not in ACTIONS or action == "drop":
            raise UserError(
                f"{where}: {path}: an action is {', '.join(a for a in ACTIONS if a != 'drop')}, "
                f"not {action!r}; what is not named is left out."
            )
        node = root
        for step in steps[:-1]:
            node = node.setdefault(step, {})
            if not isinstance(node, dict):
                raise UserError(f"{where}: {path} is below another path of the list.")
        if steps[-1] in node:
            raise UserError(f"{where}: {path} is above another path of the list.")
        node[steps[-1]] = action
    return root


def masks(rule: str | Tree) -> bool:
    """Whether a rule needs the key."""
    return rule == "mask" or (isinstance(rule, dict) and any(map(masks, rule.values())))


def _value(value: str, action: str) -> str:
    if action == "keep":
        return value
    text = f"cast({value} as varchar)"
    if action == "mask":
        return _hmac(text)
    if action == "net":
        v6 = "^(([0-9a-fA-F]{1,4}:){3})"
        return (
            f"case when regexp_full_match({text}, '([0-9]{{1,3}}[.]){{3}}[0-9]{{1,3}}')"
            f" then regexp_extract({text}, '^([0-9]+[.][0-9]+[.][0-9]+[.])', 1) || '0'"
            f" when regexp_matches({text}, '{v6}')"
            f" then regexp_extract({text}, '{v6}', 1) || ':' end"
        )
    return f"cast(date_trunc('{action}', try_cast({text} as timestamp)) as date)"


def _hmac(text: str) -> str:
    inner, outer = (f"unhex(getvariable('lakebed_region_{name}'))" for name in ("inner", "outer"))
    return f"sha256({outer} || unhex(sha256({inner} || encode({text}))))"


def _object(value: str, node: Tree, depth: int) -> str:
    """A JSON object of the allowed names of `value`, an expression of type JSON."""
    parts = []
    for step, rule in node.items():
        name = step.rstrip("[]")
        found = f"json_extract({value}, '$.\"{name}\"')"
        parts.append(f"'{name}', {_through(found, rule, step.count('[]'), depth)}")
    return f"json_object({', '.join(parts)})"


def _through(value: str, rule: str | Tree, lists: int, depth: int) -> str:
    """The rule for `value`, or for each element below so many lists."""
    if lists:
        each = f"x{depth}"
        inner = _through(each, rule, lists - 1, depth + 1)
        return (
            f"case when json_type({value}) = 'ARRAY' then to_json(list_transform("
            f"try_cast({value} as json[]), lambda {each}: {inner})) end"
        )
    if isinstance(rule, dict):
        inner = _object(value, rule, depth)
        return f"case when json_type({value}) = 'OBJECT' then {inner} end"
    if rule == "keep":
        # An object that appears where a value was would bring its fields along.
        return f"case when json_type({value}) not in ('OBJECT', 'ARRAY') then {value} end"
    text = f"({value} ->> '$')"
    return f"to_json(cast({_value(text, rule)} as varchar))"
