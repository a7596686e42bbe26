"""Cases for test_expectations: arguments, model, and the number of rows that break them."""

from __future__ import annotations

from typing import Any

Case = tuple[dict[str, Any], str, int]


def case(model: str, broken: int = 0, **arguments: Any) -> Case:
    return arguments, model, broken


def between(column: str, low: Any, high: Any, **others: Any) -> list[Case]:
    """Cases for an aggregate of `numbers` which is above `low` and below `high`."""
    name = {"column_name": column, **others}
    return [
        case("numbers", min_value=low, max_value=high, strictly=True, **name),
        case("numbers", 1, max_value=low, **name),
        case("numbers", 1, min_value=high, **name),
        case("nothing", min_value=low, max_value=high, **name),
    ]


def exactly(column: str, value: Any, **others: Any) -> list[Case]:
    """Cases for an aggregate of `numbers` which is `value`: good if bounds may be reached."""
    name = {"column_name": column, **others}
    return [
        case("numbers", min_value=value, max_value=value, **name),
        case("numbers", 1, min_value=value, strictly=True, **name),
        case("numbers", 1, max_value=value, strictly=True, **name),
    ]


A_B = {"column_A": "a", "column_B": "b"}
NUMBERS = ["id", "grp", "v", "amount", "tens", "day"]
OTHER = "ref('numbers')"
TWICE = "ref('doubled')"
GAPS = {"date_col": "moment"}
WITHIN = {"column_name": "amount", "date_column_name": "day", "group_by": ["grp"]}

CASES: dict[str, list[Case]] = {
    "expect_column_distinct_count_to_be_greater_than": [
        case("numbers", column_name="tens", value=2),
        case("numbers", 1, column_name="tens", value=3),
        case("numbers", 1, column_name="tens", value=1, group_by=["grp"]),
        case("nothing", 1, column_name="tens", value=0),
    ],
    "expect_column_distinct_count_to_be_less_than": [
        case("numbers", column_name="tens", value=4),
        case("numbers", 1, column_name="tens", value=3),
        case("numbers", column_name="tens", value=3, row_condition="v < 3 or v = 3"),
    ],
    "expect_column_distinct_count_to_equal": [
        case("numbers", column_name="tens", value=3),
        case("numbers", 1, column_name="tens", value=4),
        case("nulls", column_name="n", value=0),
    ],
    "expect_column_distinct_count_to_equal_other_table": [
        case("numbers", column_name="v", compare_model=TWICE, compare_column_name="v"),
        case("numbers", column_name="v", compare_model=TWICE),
        case("numbers", 1, column_name="v", compare_model=OTHER, compare_column_name="tens"),
        case("numbers", 1, column_name="v", compare_model=OTHER, compare_row_condition="v > 1"),
    ],
    "expect_column_distinct_values_to_be_in_set": [
        case("numbers", column_name="grp", value_set=["a", "b", "c"]),
        case("numbers", 1, column_name="grp", value_set=["a"]),
        case("numbers", column_name="tens", value_set=[10, 20, 30, None], quote_values=False),
        case("numbers", 1, column_name="tens", value_set=[10, 20, 30], quote_values=False),
    ],
    "expect_column_distinct_values_to_contain_set": [
        case("numbers", column_name="grp", value_set=["a"]),
        case("numbers", 2, column_name="grp", value_set=["a", "c", "d"]),
        case("numbers", 1, column_name="grp", value_set=["a", "b"], row_condition="v > 2"),
        case("nothing", 1, column_name="grp", value_set=["a"]),
    ],
    "expect_column_distinct_values_to_equal_set": [
        case("numbers", column_name="grp", value_set=["a", "b"]),
        case("numbers", 2, column_name="grp", value_set=["a", "c"]),
        case(
            "numbers",
            column_name="tens",
            value_set=[10, 20, 30],
            quote_values=False,
            row_condition="tens is not null",
        ),
    ],
    "expect_column_max_to_be_between": [*between("v", 4, 6), *exactly("v", 5)],
    "expect_column_min_to_be_between": [
        *between("v", 0, 2),
        *exactly("v", 1),
        case("numbers", 1, column_name="v", min_value=2, group_by=["grp"]),
    ],
    "expect_column_mean_to_be_between": [*between("v", 2.9, 3.1), *exactly("v", 3)],
    "expect_column_median_to_be_between": [
        *between("v", 2.9, 3.1),
        *exactly("v", 3),
        case("numbers", column_name="v", min_value=1.5, max_value=4, group_by=["grp"]),
        case("numbers", 1, column_name="v", min_value=1.6, max_value=4, group_by=["grp"]),
        case("numbers", 1, column_name="v", min_value=1.5, max_value=3.9, group_by=["grp"]),
        # Between two decimals there is a third.
        case(
            "numbers",
            column_name="amount",
            min_value=10.0049,
            max_value=10.0051,
            row_condition="grp = 'a'",
        ),
    ],
    "expect_column_sum_to_be_between": [*between("v", 14, 16), *exactly("v", 15)],
    "expect_column_stdev_to_be_between": [
        *between("v", 1.58, 1.59),
        case("numbers", column_name="v", min_value=100, row_condition="v = 1"),
    ],
    "expect_column_quantile_values_to_be_between": [
        *between("v", 1.9, 2.1, quantile=0.25),
        *exactly("v", 5, quantile=1),
        case("numbers", 1, column_name="v", quantile=0, min_value=2, group_by=["grp"]),
    ],
    "expect_column_unique_value_count_to_be_between": [
        *between("tens", 2, 4)[:3],
        *exactly("tens", 3),
        case("nothing", 1, column_name="v", min_value=1),
    ],
    "expect_column_proportion_of_unique_values_to_be_between": [
        *between("tens", 0.59, 0.61)[:3],
        case("nothing", column_name="v", min_value=1, max_value=1),
    ],
    "expect_column_most_common_value_to_be_in_set": [
        case("numbers", column_name="grp", value_set=["b"], top_n=1),
        case("numbers", 1, column_name="grp", value_set=["a"], top_n=1),
        case("numbers", column_name="grp", value_set=["a"], top_n=2),
        case("numbers", column_name="tens", value_set=[10], top_n=1, quote_values=False),
        case("numbers", 1, column_name="tens", value_set=[20], top_n=1, quote_values=False),
        case("nulls", column_name="s", value_set=["a"], top_n=1),
    ],
    "expect_column_values_to_be_between": [
        case("numbers", column_name="v", min_value=1, max_value=5),
        case("numbers", 2, column_name="v", min_value=1, max_value=5, strictly=True),
        case("numbers", column_name="day", min_value="date '2024-01-01'"),
        case("numbers", 1, column_name="v", max_value=4),
        case("numbers", column_name="v", max_value=4, row_condition="v < 3 or v = 3"),
        case("nulls", column_name="n", min_value=1),
    ],
    "expect_column_values_to_be_decreasing": [
        case("numbers", column_name="v", sort_column="-id"),
        case("numbers", 4, column_name="v", sort_column="id"),
        case("numbers", column_name="tens", sort_column="-id", strictly=False),
        case("numbers", 2, column_name="tens", sort_column="-id"),
        case("numbers", column_name="v", sort_column="-id", step=1),
        case("numbers", 4, column_name="v", sort_column="-id", step=2),
    ],
    "expect_column_values_to_be_increasing": [
        case("numbers", column_name="v"),
        case("numbers", 4, column_name="v", sort_column="-id"),
        case("numbers", column_name="tens", sort_column="id", strictly=False),
        case("numbers", 2, column_name="tens", sort_column="id"),
        case("numbers", column_name="v", step=1, group_by=["grp"]),
        case(
            "numbers",
            1,
            column_name="tens",
            sort_column="id",
            strictly=False,
            row_condition="id in (1, 3, 4)",
            step=10,
        ),
        # A NULL between two values does not part them.
        case("pairs", 1, column_name="b", sort_column="case when id = 4 then 1.5 else id end"),
    ],
    "expect_column_values_to_be_in_set": [
        case("numbers", column_name="grp", value_set=["a", "b"]),
        case("numbers", 4, column_name="grp", value_set=["a"]),
        case("numbers", column_name="v", value_set=["1", "2", "3", "4", "5", None]),
        case("numbers", 1, column_name="v", value_set=[1, 2, 3, 4, 5], quote_values=False),
        case("texts", column_name="word", value_set=["O'Hara"], row_condition="id = 3"),
        case("texts", column_name="word", value_set=["O''Hara"], row_condition="id = 3"),
        case("texts", column_name="path", value_set=["C:\\dir"], row_condition="id = 1"),
        case("nothing", column_name="grp", value_set=["z"]),
    ],
    "expect_column_values_to_not_be_in_set": [
        case("numbers", column_name="grp", value_set=["c"]),
        case("numbers", 2, column_name="grp", value_set=["a", "c"]),
        case("numbers", column_name="v", value_set=[7], quote_values=False),
        case("numbers", 1, column_name="v", value_set=[7, None], quote_values=False),
    ],
    "expect_column_values_to_be_in_type_list": [
        case("numbers", column_name="day", column_type_list=["timestamp", "date"]),
        case("numbers", column_name="grp", column_type_list=["string"]),
        case("numbers", 1, column_name="grp", column_type_list=["int", "date"]),
        case("numbers", 1, column_name="absent", column_type_list=["int", "date"]),
    ],
    "expect_column_values_to_be_of_type": [
        case("numbers", column_name="v", column_type="integer"),
        case("numbers", column_name="amount", column_type="decimal(4, 2)"),
        case("numbers", 1, column_name="amount", column_type="decimal(4, 3)"),
        case("numbers", 1, column_name="v", column_type="bigint"),
    ],
    "expect_column_values_to_be_null": [
        case("nulls", column_name="n"),
        case("numbers", 5, column_name="v"),
        case("numbers", column_name="v", row_condition="id = 6"),
        case("nothing", column_name="v"),
    ],
    "expect_column_values_to_not_be_null": [
        case("numbers", column_name="id"),
        case("numbers", 1, column_name="v"),
        case("numbers", column_name="v", row_condition="id = 1 or id < 6"),
    ],
    "expect_column_values_to_be_unique": [
        case("numbers", column_name="v"),
        case("numbers", 2, column_name="tens"),
        case("nulls", column_name="n"),
        case("numbers", column_name="tens", row_condition="id = 1 or id > 3"),
    ],
    "expect_column_values_to_have_consistent_casing": [
        case("texts", column_name="word"),
        case("texts", 1, column_name="mixed"),
        case("texts", 1, column_name="mixed", display_inconsistent_columns=True),
        case("nothing", column_name="grp"),
    ],
    "expect_column_values_to_be_within_n_moving_stdevs": [
        case("series", 1, **WITHIN),
        case("series", **{**WITHIN, "sigma_threshold": 10000}),
        case("series", 1, **WITHIN, take_diffs=False, take_logs=False, test_periods=1),
        case("series", **WITHIN, test_periods=0),
        case("numbers", column_name="v", date_column_name="day", take_logs=False),
        case("nothing", column_name="v", date_column_name="day"),
    ],
    "expect_column_values_to_be_within_n_stdevs": [
        case("numbers", column_name="v", sigma_threshold=1.3),
        case("numbers", 2, column_name="v", sigma_threshold=1.2),
        case("series", 1, column_name="amount", group_by=["day"]),
        case("nulls", column_name="n"),
    ],
    "expect_row_values_to_have_data_for_every_n_datepart": [
        case("numbers", date_col="day"),
        case("gaps", 1, **GAPS, row_condition="moment < timestamp '2024-02-01'"),
        case("gaps", **GAPS, interval=2, row_condition="moment < timestamp '2024-02-01'"),
        case(
            "gaps",
            **GAPS,
            test_end_date="2024-01-20",
            exclusion_condition="date_day <> date '2024-01-17'",
        ),
        case("gaps", 1, **GAPS, test_start_date="2024-01-14", test_end_date="2024-01-17"),
        case("gaps", 1, **GAPS, date_part="month"),
        case("gaps", 5, **GAPS, date_part="week"),
        case("hours", 1, **GAPS, date_part="hour"),
        case("nothing", date_col="day"),
        case(
            "nothing", 2, date_col="day", test_start_date="2024-01-01", test_end_date="2024-01-03"
        ),
    ],
    "expect_row_values_to_have_recent_data": [
        case("moments", column_name="happened_at", datepart="day", interval=1),
        case("moments", 1, column_name="happened_at", datepart="minute", interval=30),
        case(
            "moments",
            1,
            column_name="happened_at",
            datepart="day",
            interval=7,
            row_condition="grp = 'old' or grp = 'later'",
        ),
        case("nulls", 1, column_name="moment", datepart="day", interval=1),
    ],
    "expect_grouped_row_values_to_have_recent_data": [
        case(
            "moments", timestamp_column="happened_at", group_by=["grp"], datepart="day", interval=12
        ),
        case(
            "moments",
            1,
            timestamp_column="happened_at",
            group_by=["grp"],
            datepart="day",
            interval=7,
        ),
        # The group of NULL is a group too.
        case(
            "moments",
            2,
            timestamp_column="happened_at",
            group_by=["grp"],
            datepart="hour",
            interval=24,
        ),
        case(
            "moments",
            timestamp_column="happened_at",
            group_by=["grp"],
            datepart="day",
            interval=7,
            row_condition="grp = 'new' or grp is null",
        ),
    ],
    "expect_column_pair_values_A_to_be_greater_than_B": [
        case("pairs", **A_B, row_condition="id > 2"),
        case("pairs", 2, **A_B),
        case("pairs", 1, **A_B, or_equal=True),
    ],
    "expect_column_pair_values_to_be_equal": [
        case("pairs", **A_B, row_condition="id = 2 or id = 4"),
        case("pairs", 2, **A_B),
    ],
    "expect_column_pair_values_to_be_in_set": [
        case("pairs", **A_B, value_pairs_set=[[1, 2], [5, 5], [9, 4]]),
        case("pairs", 1, **A_B, value_pairs_set=[[1, 2], [9, 4]]),
        case("pairs", 1, **A_B, value_pairs_set=[[1, 2], [5, 5], [None, 4]]),
    ],
    "expect_compound_columns_to_be_unique": [
        case("numbers", column_list=["tens", "v"]),
        case("numbers", 2, column_list=["grp", "tens"], quote_columns=True),
        case("doubled", 6, column_list=["id", "v"]),
        case("doubled", 5, column_list=["id", "v"], ignore_row_if="any_value_is_missing"),
        case("nulls", column_list=["n", "s"]),
        case("doubled", 2, column_list=["id", "grp"], row_condition="id = 1 or id = 2"),
    ],
    "expect_multicolumn_sum_to_equal": [
        case("pairs", column_list=["a", "b"], sum_total="total"),
        case("pairs", 1, column_list=["a", "b"], sum_total=31),
        case("pairs", column_list=["a", "b"], sum_total=30),
        case("numbers", 1, column_list=["v"], sum_total=3, group_by=["grp"]),
        case("nothing", column_list=["v"], sum_total=3),
    ],
    "expect_select_column_values_to_be_unique_within_record": [
        case("pairs", column_list=["a", "b"], row_condition="id = 1 or id = 3"),
        case("pairs", 2, column_list=["a", "b"]),
        case("pairs", 1, column_list=["a", "b", "total"], ignore_row_if="any_value_is_missing"),
        case("nulls", column_list=["n", "s"], quote_columns=True),
    ],
    "expect_column_value_lengths_to_be_between": [
        case("texts", column_name="word", min_value=0, max_value=6),
        case("texts", 1, column_name="word", max_value=6, strictly=True),
        case("texts", 1, column_name="word", min_value=1),
        case("nulls", column_name="s", min_value=1),
    ],
    "expect_column_value_lengths_to_equal": [
        case("texts", column_name="word", value=3, row_condition="id < 3 or id = 4"),
        case("texts", 2, column_name="word", value=3),
    ],
    "expect_column_values_to_match_like_pattern": [
        case("texts", column_name="code", like_pattern="%_%"),
        case("texts", 1, column_name="code", like_pattern="%-%"),
        case("texts", 3, column_name="code", like_pattern="%\\_%"),
        case("texts", column_name="path", like_pattern="C:\\\\%\\_%", row_condition="id = 5"),
        case("texts", column_name="path", like_pattern="C:\\di_", row_condition="id < 3"),
        case("texts", column_name="path", like_pattern="C:\\50\\%", row_condition="id = 3"),
        case("texts", column_name="word", like_pattern="O'%", row_condition="id = 3"),
    ],
    "expect_column_values_to_match_like_pattern_list": [
        case("texts", column_name="code", like_pattern_list=["_-%", "C%"]),
        case("texts", 1, column_name="code", like_pattern_list=["_-%", "D%"]),
        case("texts", 2, column_name="code", like_pattern_list=["_-%", "A%"], match_on="all"),
    ],
    "expect_column_values_to_not_match_like_pattern": [
        case("texts", column_name="code", like_pattern="D%"),
        case("texts", 3, column_name="code", like_pattern="%-%"),
        case("texts", column_name="code", like_pattern="%-%", row_condition="id = 5"),
    ],
    "expect_column_values_to_not_match_like_pattern_list": [
        case("texts", column_name="code", like_pattern_list=["%-%", "D%"]),
        case("texts", 3, column_name="code", like_pattern_list=["%-%", "D%"], match_on="all"),
    ],
    "expect_column_values_to_match_regex": [
        case("texts", column_name="code", regex="^[A-Z][-_]\\d{1,2}$"),
        case("texts", 1, column_name="code", regex="^[A-Z]-\\d+$"),
        case("texts", 4, column_name="code", regex="^[a-z]"),
        case("texts", column_name="code", regex="^[a-z]", flags="i"),
        case("texts", 1, column_name="word", regex="[a-z]"),
        # An empty match is a match, in an empty text too.
        case("texts", column_name="word", regex="z*"),
        case("texts", 3, column_name="word", regex="^$"),
        case("texts", column_name="word", regex="O'H", row_condition="id = 3"),
        case("texts", column_name="path", regex="^C:\\\\", is_raw=True),
        case("texts", 3, column_name="path", regex="^C:\\\\di[rn]"),
        case("numbers", column_name="v", regex="^[1-5]$"),
        case("nulls", column_name="s", regex="x"),
    ],
    "expect_column_values_to_match_regex_list": [
        case("texts", column_name="code", regex_list=["^A-\\d\\d$", "^[BC]"]),
        case("texts", 1, column_name="code", regex_list=["^A", "^B"]),
        case("texts", 2, column_name="code", regex_list=["^a", "\\d$"], match_on="all", flags="i"),
    ],
    "expect_column_values_to_not_match_regex": [
        case("texts", column_name="code", regex="\\s"),
        case("texts", 3, column_name="code", regex="-\\d"),
        case("texts", 4, column_name="word", regex="z*"),
        case("texts", column_name="word", regex="b", row_condition="id > 2"),
    ],
    "expect_column_values_to_not_match_regex_list": [
        case("texts", column_name="code", regex_list=["^A", "^B"]),
        case("texts", 3, column_name="code", regex_list=["^A", "^B"], match_on="all"),
    ],
    "expect_column_to_exist": [
        case("numbers", column_name="V"),
        case("numbers", 1, column_name="absent"),
        case("numbers", column_name="v", column_index=3),
        case("numbers", 1, column_name="v", column_index=2),
        case("numbers", 1, column_name="V", transform="string"),
    ],
    "expect_table_aggregation_to_equal_other_table": [
        case("numbers", expression="sum(v)", compare_model=OTHER, group_by=["grp"]),
        case("numbers", 1, expression="sum(v)", compare_model=TWICE),
        case("numbers", expression="sum(v) * 2", compare_model=TWICE, compare_expression="sum(v)"),
        case("numbers", expression="sum(v)", compare_model=TWICE, tolerance=15),
        case("numbers", expression="sum(v)", compare_model=TWICE, tolerance_percent=1.0),
        case("numbers", 1, expression="sum(v)", compare_model=TWICE, tolerance_percent=0.99),
        case(
            "numbers",
            1,
            expression="sum(v)",
            compare_model=OTHER,
            group_by=["grp"],
            compare_row_condition="grp = 'b'",
        ),
        case("numbers", 1, expression="-sum(v)", compare_model=TWICE, tolerance_percent=0.5),
        case("moments", expression="count(*)", compare_model="ref('moments')", group_by=["grp"]),
        case("nothing", expression="sum(v)", compare_model="ref('nothing')"),
    ],
    "expect_table_column_count_to_be_between": [
        case("numbers", min_value=6, max_value=6),
        case("numbers", 1, min_value=7),
        case("numbers", 1, max_value=5),
        case("numbers", 1, max_value=0),
    ],
    "expect_table_column_count_to_equal": [case("numbers", value=6), case("numbers", 1, value=5)],
    "expect_table_column_count_to_equal_other_table": [
        case("numbers", compare_model=TWICE),
        case("texts", 1, compare_model=OTHER),
    ],
    "expect_table_columns_to_contain_set": [
        case("numbers", column_list=["ID", "v"]),
        case("numbers", 2, column_list=["id", "x", "y"]),
        case("numbers", 1, column_list=["ID"], transform="string"),
    ],
    "expect_table_columns_to_not_contain_set": [
        case("numbers", column_list=["x", "y"]),
        case("numbers", 1, column_list=["x", "ID"]),
    ],
    "expect_table_columns_to_match_set": [
        case("numbers", column_list=NUMBERS[::-1]),
        case("numbers", 1, column_list=NUMBERS[1:]),
        case("numbers", 1, column_list=[*NUMBERS, "x"]),
    ],
    "expect_table_columns_to_match_ordered_list": [
        case("numbers", column_list=NUMBERS),
        case("numbers", 6, column_list=NUMBERS[::-1]),
        case("numbers", 1, column_list=[*NUMBERS, "x"]),
        case("numbers", 1, column_list=NUMBERS[:-1]),
    ],
    "expect_table_row_count_to_be_between": [
        case("numbers", min_value=6, max_value=6),
        case("numbers", 1, min_value=6, strictly=True),
        case("numbers", 1, min_value=3, group_by=["grp"]),
        case("nothing", 1, min_value=1),
        case("numbers", max_value=2, row_condition="id = 1 or id = 2"),
    ],
    "expect_table_row_count_to_equal": [
        case("numbers", value=6),
        case("numbers", 1, value=5),
        case("nothing", value=0),
        case("numbers", 1, value=2, group_by=["grp"]),
    ],
    "expect_table_row_count_to_equal_other_table": [
        case("numbers", compare_model=OTHER, group_by=["grp"]),
        case("numbers", 1, compare_model=TWICE),
        case("doubled", compare_model=OTHER, factor=2),
        case("numbers", 2, compare_model=OTHER, group_by=["grp"], compare_group_by=["'a'"]),
        case("nothing", compare_model="ref('nothing')"),
    ],
    "expect_table_row_count_to_equal_other_table_times_factor": [
        case("doubled", compare_model=OTHER, factor=2),
        case("doubled", 1, compare_model=OTHER, factor=3),
        case("doubled", 2, compare_model=OTHER, factor=1, group_by=["grp"]),
    ],
}
