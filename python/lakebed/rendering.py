"""`{{ env_var('NAME') }}` in YAML files, as dbt resolves it in profiles.yml."""

from __future__ import annotations

import os
import re
from datetime import date
from pathlib import Path
from typing import Any

from lakebed.errors import UserError

#: What nearly every file has, and all it has: a variable, perhaps with a default, as text, or as
#: another variable with one.
_NAME, _TEXT = r"env_var\(\s*['\"](?P<{}>\w+)['\"]\s*", r"['\"](?P<{}>[^'\"\\{{}}]*)['\"]\s*"
_PLAIN = re.compile(
    r"\{\{\s*"
    + _NAME.format("name")
    + "(?:,\\s*(?:"
    + _TEXT.format("default")
    + "|"
    + _NAME.format("second")
    + r",\s*"
    + _TEXT.format("last")
    + r"\)\s*))?\)\s*\}\}"
)
_JINJA = ("{{", "{%", "{#")


def render_data(data: Any, file: Path) -> Any:
    """`data` (of the YAML file `file`) with its Jinja resolved. Raises UserError.

    Loading dbt takes a second, which every command would pay: it is loaded only for what is
    more than a plain env_var, a missing variable included.
    """
    try:
        return _plain(data)
    except _NeedsDbt:
        return _by_dbt(data, file)


class _NeedsDbt(Exception):
    pass


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_plain(value) for value in data]
    if isinstance(data, date):
        return data.isoformat()  # as dbt does
    if not isinstance(data, str) or not any(mark in data for mark in (*_JINJA, "\n")):
        return data
    if "\n" in data or any(mark in _PLAIN.sub("", data) for mark in _JINJA):
        raise _NeedsDbt
    return _PLAIN.sub(_value, data)


def _value(found: re.Match[str]) -> str:
    value = os.environ.get(found["name"], found["default"])
    if value is None and found["second"]:
        value = os.environ.get(found["second"], found["last"])
    if value is None:
        raise _NeedsDbt  # which says what is missing
    return value


def _by_dbt(data: Any, file: Path) -> Any:
    from dbt.config.renderer import ProfileRenderer
    from dbt_common.context import set_invocation_context
    from dbt_common.exceptions import DbtBaseException

    set_invocation_context(os.environ)
    try:
        return ProfileRenderer({}).render_data(data)
    except DbtBaseException as error:
        raise UserError(f"{file}: {' '.join(str(error).split())}") from error
