"""`env_var` in YAML files means what it means to dbt, also when dbt is not loaded for it."""

from __future__ import annotations

import subprocess
import sys
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from dbt.config.renderer import ProfileRenderer
from dbt_common.context import set_invocation_context
from lakebed import rendering
from lakebed.errors import UserError

SAMPLES: list[Any] = [
    "plain",
    "{{ env_var('WORD') }}",
    "{{env_var('WORD')}}/files/{{ env_var(\"NUMBER\") }}",
    "{{ env_var('NUMBER') }}",
    "{{ env_var('TRUTH') }}",
    "{{ env_var('EMPTY') }}",
    "{{ env_var('EMPTY', 'unused') }}",
    "{{ env_var('ABSENT', 'a default: [1]') }}",
    "{{ env_var('ABSENT', '') }}",
    "{{ env_var('ABSENT', \"it's\") }}",
    "{{ env_var('JINJA') }}",
    "{{ env_var('SPACED') }}",
    " {{ env_var('SPACED') }} \n",
    "{{ env_var('COUNT') | as_number }}",
    "{{ env_var('ABSENT', '7') | as_number }}",
    "{{ env_var('YES') | as_bool }}",
    "{{ env_var('WO' ~ 'RD') }}",
    "{# a comment #}{{ env_var('WORD') }}",
    "{% if true %}yes{% endif %}",
    "{ {env_var('WORD')} }",
    1,
    1.5,
    None,
    True,
    "two\nlines\n",
    date(2024, 1, 31),
    datetime(2024, 1, 31, 12),
    {"a": ["{{ env_var('WORD') }}", {"b": "{{ env_var('NUMBER') }}"}], "port": "5"},
]


@pytest.mark.parametrize("sample", SAMPLES, ids=repr)
def test_as_dbt_does(monkeypatch: pytest.MonkeyPatch, sample: Any) -> None:
    variables = {
        "WORD": "word",
        "NUMBER": "0123",
        "COUNT": "12",
        "TRUTH": "true",
        "YES": "True",
        "EMPTY": "",
        "JINJA": "{{ 1 + 1 }} \\1",
        "SPACED": " x ",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    set_invocation_context(variables)
    expected = ProfileRenderer({}).render_data(sample)
    found = rendering.render_data(sample, Path("x.yml"))
    assert (found, type(found)) == (expected, type(expected))


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(UserError, match=r"x\.yml: .*'NOT_THERE'"):
        rendering.render_data({"a": "{{ env_var('NOT_THERE') }}"}, Path("x.yml"))


def test_dbt_is_not_loaded_for_a_plain_file() -> None:
    program = (
        "import sys; from pathlib import Path; from lakebed.project import target_settings;"
        "target_settings(Path('.'), None, 'local'); sys.exit('dbt.config' in sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)
