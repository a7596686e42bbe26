"""All 62 expect_* tests: for each a case that passes and one that must fail, in one dbt run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import ROOT, DbtProject, Run

PROVES = ["pat-quality-checks-defaults", "pat-completeness-check"]

MODELS = {
    # One of everything: a NULL, a tie, unequal case, quotes, backslashes, Unicode.
    "people": """
        select * from (values
            (1, 'Ann', 'a', 10.0, 10.0, timestamp '2024-01-01 08:00:00', 'x1'),
            (2, 'Bob', 'a', 20.0, 21.0, timestamp '2024-01-02 08:00:00', 'x2'),
            (3, 'ann', 'b', 30.0, 30.0, timestamp '2024-01-03 08:00:00', 'x\\3'),
            (4, 'Zoë', 'b', 40.0, 41.0, timestamp '2024-01-05 08:00:00', 'it''s'),
            (5, null, 'b', null, 5.0, timestamp '2024-01-06 08:00:00', '')
        ) as rows (id, name, team, score, best, seen_at, code)
    """,
    "copy_of_people": "select * from {{ ref('people') }}",
    "fewer_people": "select id, name, team from {{ ref('people') }} where id < 4",
    "nobody": "select * from {{ ref('people') }} where id < 0",
    # Flat but for a jump on the last day.
    "series": """
        select
            cast(day as date) as day,
            case
                when day = timestamp '2024-02-29' then 500.0
                else 100.0 + day(day) % 3
            end as amount
        from unnest(generate_series(
            timestamp '2024-02-01', timestamp '2024-02-29', interval 1 day
        )) as days (day)
    """,
}

OTHER = "ref('copy_of_people')"
FEWER = "ref('fewer_people')"
# name: (model, column or None, passing arguments, failing arguments); several where a corner
# is worth it
Case = tuple[str, str | None, dict[str, Any], dict[str, Any]]
CASES: dict[str, list[Case]] = {
    "column_to_exist": [
        ("people", "id", {}, {"column_index": 2}),
        ("people", "ID", {"column_index": 1}, {"transform": "none"}),
    ],
    "row_values_to_have_recent_data": [
        (
            "people",
            "seen_at",
            {"datepart": "day", "interval": 2},
            {"datepart": "hour", "interval": 1},
        ),
        (
            "people",
            "seen_at",
            {"datepart": "day", "interval": 9},
            {"datepart": "day", "interval": 9, "row_condition": "id > 99"},
        ),
    ],
    "grouped_row_values_to_have_recent_data": [
        (
            "people",
            None,
            {"group_by": ["team"], "timestamp_column": "seen_at", "datepart": "day", "interval": 6},
            {"group_by": ["team"], "timestamp_column": "seen_at", "datepart": "day", "interval": 3},
        ),
    ],
    "table_aggregation_to_equal_other_table": [
        (
            "people",
            None,
            {"expression": "sum(score)", "compare_model": OTHER, "group_by": ["team"]},
            {"expression": "count(*)", "compare_model": FEWER, "group_by": ["team"]},
        ),
        (
            "people",
            None,
            {
                "expression": "sum(score)",
                "compare_model": OTHER,
                "compare_expression": "sum(best) - 7",
                "tolerance": 1,
            },
            {
                "expression": "sum(score)",
                "compare_model": OTHER,
                "compare_expression": "sum(best)",
                "tolerance_percent": 0.01,
            },
        ),
    ],
    "table_column_count_to_be_between": [
        ("people", None, {"min_value": 7, "max_value": 7}, {"min_value": 8})
    ],
    "table_column_count_to_equal": [("people", None, {"value": 7}, {"value": 6})],
    "table_column_count_to_equal_other_table": [
        ("people", None, {"compare_model": OTHER}, {"compare_model": FEWER})
    ],
    "table_columns_to_contain_set": [
        ("people", None, {"column_list": ["id", "NAME"]}, {"column_list": ["id", "nothing"]})
    ],
    "table_columns_to_not_contain_set": [
        ("people", None, {"column_list": ["nothing"]}, {"column_list": ["nothing", "id"]})
    ],
    "table_columns_to_match_set": [
        (
            "fewer_people",
            None,
            {"column_list": ["team", "name", "id"]},
            {"column_list": ["id", "name"]},
        )
    ],
    "table_columns_to_match_ordered_list": [
        (
            "fewer_people",
            None,
            {"column_list": ["id", "name", "team"]},
            {"column_list": ["id", "team", "name"]},
        )
    ],
    "table_row_count_to_be_between": [
        ("people", None, {"min_value": 5, "max_value": 5}, {"min_value": 5, "strictly": True}),
        (
            "people",
            None,
            {"min_value": 2, "group_by": ["team"]},
            {"min_value": 3, "group_by": ["team"]},
        ),
        ("nobody", None, {"max_value": 0}, {"min_value": 1}),
    ],
    "table_row_count_to_equal": [
        ("people", None, {"value": 5}, {"value": 5, "row_condition": "name is not null"})
    ],
    "table_row_count_to_equal_other_table": [
        ("people", None, {"compare_model": OTHER}, {"compare_model": FEWER}),
        (
            "people",
            None,
            {"compare_model": OTHER, "group_by": ["team"]},
            {"compare_model": FEWER, "group_by": ["team"]},
        ),
    ],
    "table_row_count_to_equal_other_table_times_factor": [
        (
            "people",
            None,
            {
                "compare_model": FEWER,
                "factor": 5,
                "row_condition": "id <= 3",
                "compare_row_condition": "id = 0",
            }
            | {"row_condition": "id = 0"},
            {"compare_model": OTHER, "factor": 2},
        )
    ],
    "column_values_to_be_null": [("people", "score", {"row_condition": "id = 5"}, {})],
    "column_values_to_not_be_null": [
        ("people", "score", {"row_condition": "id < 5"}, {}),
        ("nobody", "score", {}, {"row_condition": None, "_model": "people"}),
    ],
    "column_values_to_be_unique": [("people", "name", {}, {"_column": "team"})],
    "column_values_to_be_of_type": [
        ("people", "name", {"column_type": "string"}, {"column_type": "date"}),
        ("people", "id", {"column_type": "INTEGER"}, {"column_type": "bigint"}),
    ],
    "column_values_to_be_in_type_list": [
        (
            "people",
            "seen_at",
            {"column_type_list": ["date", "timestamp"]},
            {"column_type_list": ["date"]},
        )
    ],
    "column_values_to_have_consistent_casing": [
        ("people", "code", {}, {"_column": "name", "display_inconsistent_columns": True})
    ],
    "column_values_to_be_in_set": [
        ("people", "team", {"value_set": ["a", "b"]}, {"value_set": ["a"]}),
        (
            "people",
            "code",
            {"value_set": ["x1", "x2", "x\\3", "it's", ""]},
            {"value_set": ["x1", "it's"]},
        ),
        (
            "people",
            "id",
            {"value_set": [1, 2, 3, 4, 5], "quote_values": False},
            {"value_set": [1, 2], "quote_values": False},
        ),
    ],
    "column_values_to_not_be_in_set": [
        ("people", "team", {"value_set": ["c"]}, {"value_set": ["b", "c"]})
    ],
    "column_values_to_be_between": [
        ("people", "score", {"min_value": 10, "max_value": 40}, {"min_value": 10, "strictly": True})
    ],
    "column_values_to_be_increasing": [
        (
            "people",
            "score",
            {"sort_column": "id", "row_condition": "id < 5"},
            {"sort_column": "id desc"},
        ),
        ("people", "score", {"sort_column": "id", "step": 10}, {"sort_column": "id", "step": 5}),
        ("people", "team", {"sort_column": "id", "strictly": False}, {"sort_column": "id"}),
    ],
    "column_values_to_be_decreasing": [
        ("people", "score", {"sort_column": "id desc"}, {"sort_column": "id"}),
        (
            "people",
            "id",
            {
                "sort_column": "score desc",
                "group_by": ["team"],
                "row_condition": "score is not null",
            },
            {"sort_column": "id"},
        ),
    ],
    "column_value_lengths_to_be_between": [
        ("people", "name", {"min_value": 3, "max_value": 3}, {"min_value": 4})
    ],
    "column_value_lengths_to_equal": [("people", "name", {"value": 3}, {"value": 2})],
    "column_values_to_match_like_pattern": [
        (
            "people",
            "code",
            {"like_pattern": "x%", "row_condition": "id < 4"},
            {"like_pattern": "x%"},
        ),
        (
            "people",
            "code",
            {"like_pattern": "x\\\\3", "row_condition": "id = 3"},
            {"like_pattern": "x\\%", "row_condition": "id = 3"},
        ),
    ],
    "column_values_to_match_like_pattern_list": [
        ("people", "code", {"like_pattern_list": ["x%", "it%", ""]}, {"like_pattern_list": ["x%"]}),
        (
            "people",
            "name",
            {"like_pattern_list": ["A%", "%n"], "match_on": "all", "row_condition": "id = 1"},
            {"like_pattern_list": ["A%", "%z"], "match_on": "all", "row_condition": "id = 1"},
        ),
    ],
    "column_values_to_not_match_like_pattern": [
        ("people", "name", {"like_pattern": "Q%"}, {"like_pattern": "A%"})
    ],
    "column_values_to_not_match_like_pattern_list": [
        ("people", "name", {"like_pattern_list": ["Q%", "R%"]}, {"like_pattern_list": ["Q%", "A%"]})
    ],
    "column_values_to_match_regex": [
        ("people", "code", {"regex": r"^x\d$", "row_condition": "id < 3"}, {"regex": r"^x\d$"}),
        ("people", "name", {"regex": "^[a-z]", "flags": "i"}, {"regex": "^[a-z]"}),
        # A match of no length is a match; a backslash and a quote are themselves.
        ("people", "code", {"regex": "z*"}, {"regex": "z+"}),
        (
            "people",
            "code",
            {"regex": r"\\3$", "row_condition": "id = 3"},
            {"regex": r"\\4$", "row_condition": "id = 3"},
        ),
        (
            "people",
            "code",
            {"regex": "it's", "row_condition": "id = 4"},
            {"regex": "it''s", "row_condition": "id = 4"},
        ),
        (
            "people",
            "name",
            {"regex": "^Zo.$", "row_condition": "id = 4"},
            {"regex": "^Zo..$", "row_condition": "id = 4"},
        ),
    ],
    "column_values_to_match_regex_list": [
        ("people", "team", {"regex_list": ["^a$", "^b$"]}, {"regex_list": ["^a$", "^c$"]}),
        (
            "people",
            "name",
            {"regex_list": ["n", "A"], "match_on": "all", "row_condition": "id = 1"},
            {"regex_list": ["n", "b"], "match_on": "all", "row_condition": "id = 1"},
        ),
    ],
    "column_values_to_not_match_regex": [("people", "name", {"regex": r"\d"}, {"regex": "n$"})],
    "column_values_to_not_match_regex_list": [
        ("people", "name", {"regex_list": [r"\d", "q"]}, {"regex_list": [r"\d", "n"]})
    ],
    "column_distinct_count_to_be_greater_than": [("people", "team", {"value": 1}, {"value": 2})],
    "column_distinct_count_to_be_less_than": [("people", "team", {"value": 3}, {"value": 2})],
    "column_distinct_count_to_equal": [
        ("people", "team", {"value": 2}, {"value": 3}),
        (
            "people",
            "id",
            {"value": 2, "group_by": ["team"], "row_condition": "id < 5"},
            {"value": 2, "group_by": ["team"]},
        ),
    ],
    "column_distinct_count_to_equal_other_table": [
        (
            "people",
            "id",
            {"compare_model": OTHER, "compare_column_name": "id"},
            {"compare_model": FEWER, "compare_column_name": "id"},
        )
    ],
    "column_distinct_values_to_be_in_set": [
        ("people", "team", {"value_set": ["a", "b", "c"]}, {"value_set": ["a"]})
    ],
    "column_distinct_values_to_contain_set": [
        ("people", "team", {"value_set": ["a"]}, {"value_set": ["a", "c"]})
    ],
    "column_distinct_values_to_equal_set": [
        ("people", "team", {"value_set": ["b", "a"]}, {"value_set": ["a", "b", "c"]}),
        (
            "people",
            "team",
            {"value_set": ["b"], "row_condition": "team = 'b'"},
            {"value_set": ["b"]},
        ),
    ],
    "column_max_to_be_between": [
        ("people", "score", {"min_value": 40, "max_value": 40}, {"max_value": 39})
    ],
    "column_min_to_be_between": [("people", "score", {"min_value": 10}, {"min_value": 11})],
    "column_mean_to_be_between": [
        ("people", "score", {"min_value": 25, "max_value": 25}, {"min_value": 26})
    ],
    "column_sum_to_be_between": [
        ("people", "score", {"min_value": 100, "max_value": 100}, {"max_value": 99}),
        (
            "people",
            "score",
            {"min_value": 30, "group_by": ["team"]},
            {"min_value": 31, "group_by": ["team"]},
        ),
    ],
    "column_stdev_to_be_between": [
        ("people", "score", {"min_value": 12.9, "max_value": 13}, {"max_value": 12})
    ],
    "column_median_to_be_between": [
        ("people", "score", {"min_value": 25, "max_value": 25}, {"min_value": 26}),
        (
            "people",
            "score",
            {"min_value": 15, "max_value": 35, "group_by": ["team"]},
            {"min_value": 16, "group_by": ["team"]},
        ),
    ],
    "column_quantile_values_to_be_between": [
        (
            "people",
            "score",
            {"quantile": 0.25, "min_value": 17.5, "max_value": 17.5},
            {"quantile": 0.25, "min_value": 18},
        )
    ],
    "column_unique_value_count_to_be_between": [
        ("people", "team", {"min_value": 2, "max_value": 2}, {"min_value": 3})
    ],
    "column_proportion_of_unique_values_to_be_between": [
        ("people", "team", {"min_value": 0.4, "max_value": 0.4}, {"min_value": 0.5}),
        ("people", "name", {"min_value": 1}, {"max_value": 0.9}),
    ],
    "column_most_common_value_to_be_in_set": [
        ("people", "team", {"value_set": ["b"]}, {"value_set": ["a"]}),
        ("people", "name", {"value_set": ["Bob"], "ties_okay": True}, {"value_set": ["Bob"]}),
    ],
    "column_pair_values_A_to_be_greater_than_B": [
        (
            "people",
            None,
            {"column_A": "best", "column_B": "score", "or_equal": True},
            {"column_A": "best", "column_B": "score"},
        )
    ],
    "column_pair_values_to_be_equal": [
        (
            "people",
            None,
            {"column_A": "score", "column_B": "best", "row_condition": "id in (1, 3)"},
            {"column_A": "score", "column_B": "best"},
        )
    ],
    "column_pair_values_to_be_in_set": [
        (
            "people",
            None,
            {
                "column_A": "id",
                "column_B": "team",
                "row_condition": "id < 3",
                "value_pairs_set": [["1", "'a'"], ["2", "'a'"]],
            },
            {"column_A": "id", "column_B": "team", "value_pairs_set": [["1", "'a'"]]},
        )
    ],
    "compound_columns_to_be_unique": [
        ("people", None, {"column_list": ["team", "id"]}, {"column_list": ["team"]}),
        (
            "people",
            None,
            {"column_list": ["team", "score"], "ignore_row_if": "any_value_is_missing"},
            {"column_list": ["team"], "ignore_row_if": "never", "quote_columns": True},
        ),
    ],
    "select_column_values_to_be_unique_within_record": [
        (
            "people",
            None,
            {"column_list": ["score", "best"], "row_condition": "id in (2, 4)"},
            {"column_list": ["id", "score", "best"]},
        )
    ],
    "multicolumn_sum_to_equal": [
        (
            "people",
            None,
            {"column_list": ["score", "best"], "sum_total": 207},
            {"column_list": ["score", "best"], "sum_total": 208},
        )
    ],
    "column_values_to_be_within_n_stdevs": [
        ("series", "amount", {"sigma_threshold": 6}, {"sigma_threshold": 5}),
        (
            "series",
            "amount",
            {"sigma_threshold": 6, "group_by": ["day"]},
            {"sigma_threshold": 3, "group_by": ["day"]},
        ),
    ],
    "column_values_to_be_within_n_moving_stdevs": [
        (
            "series",
            "amount",
            {"date_column_name": "day", "sigma_threshold": 3000},
            {"date_column_name": "day"},
        ),
        (
            "series",
            "amount",
            {
                "date_column_name": "day",
                "take_diffs": False,
                "take_logs": False,
                "sigma_threshold_upper": 3000,
                "sigma_threshold_lower": -3,
            },
            {"date_column_name": "day", "take_diffs": False, "take_logs": False},
        ),
    ],
    "row_values_to_have_data_for_every_n_datepart": [
        (
            "people",
            None,
            {"date_col": "seen_at", "exclusion_condition": "date_day = '2024-01-04'"},
            {"date_col": "seen_at"},
        ),
        (
            "people",
            None,
            {"date_col": "seen_at", "interval": 2},
            {"date_col": "seen_at", "row_condition": "id != 3"},
        ),
        (
            "people",
            None,
            {"date_col": "seen_at", "test_end_date": "2024-01-04"},
            {"date_col": "seen_at", "test_start_date": "2023-12-31", "test_end_date": "2024-01-04"},
        ),
    ],
}


def generic_test(name: str, model: str, column: str | None, arguments: dict[str, Any]) -> str:
    """A singular test that calls the generic one, as dbt does it for a test in YAML."""
    given = dict(arguments)
    model, column = given.pop("_model", model), given.pop("_column", column)
    if column is not None:
        given["column_name"] = column
    items = ", ".join(
        f"{key}={value if isinstance(value, str) and value.startswith('ref(') else literal(value)}"
        for key, value in given.items()
    )
    return f"{{{{ lakebed.test_expect_{name}(model=ref('{model}'), {items}) }}}}"


def literal(value: object) -> str:
    """Jinja reads Python's literals; none is its None."""
    return "none" if value is None else repr(value)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    files = {f"models/{name}.sql": sql for name, sql in MODELS.items()}
    for name, cases in CASES.items():
        for number, (model, column, passing, failing) in enumerate(cases):
            files[f"tests/{name}__{number}__passes.sql"] = generic_test(
                name, model, column, passing
            )
            files[f"tests/{name}__{number}__fails.sql"] = generic_test(name, model, column, failing)
    project = DbtProject(
        tmp_path_factory.mktemp("expectations"), files, vars={"as_of": "2024-01-07 12:00:00"}
    )
    # Apart, as a failing test would keep `build` from making the tables downstream.
    project.run("run")
    return project.run("test", check=False)


def test_there_are_all_62() -> None:
    names = {
        path.stem.removeprefix("expect_")
        for path in Path(ROOT, "macros/quality/expectations").glob("expect_*.sql")
    }
    assert len(names) == 62
    assert names == set(CASES)


@pytest.mark.parametrize("name", sorted(CASES))
def test_passes_and_fails(run: Run, name: str) -> None:
    for number in range(len(CASES[name])):
        passing, failing = (run.nodes[f"{name}__{number}__{way}"] for way in ("passes", "fails"))
        assert passing.status == "pass", passing
        assert failing.status == "fail", failing


def test_in_yaml_as_users_write_it(tmp_path: Path) -> None:
    schema = {
        "version": 2,
        "models": [
            {
                "name": "people",
                "data_tests": [
                    {"lakebed.expect_table_row_count_to_equal": {"arguments": {"value": 5}}}
                ],
                "columns": [
                    {
                        "name": "code",
                        "data_tests": [
                            {
                                "lakebed.expect_column_values_to_match_regex": {
                                    "arguments": {"regex": r"^x\d$"},
                                    "config": {"where": "id < 3"},
                                }
                            }
                        ],
                    }
                ],
            }
        ],
    }
    project = DbtProject(
        tmp_path,
        {"models/people.sql": MODELS["people"], "models/schema.yml": yaml.safe_dump(schema)},
    )
    result = project.run("build")
    assert sorted(result.statuses.values()) == ["pass", "pass", "success"]
