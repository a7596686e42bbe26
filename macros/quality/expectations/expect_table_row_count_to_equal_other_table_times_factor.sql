{#- Generic test: a table has `factor` times as many rows as another, in every group. Arguments:
    compare_model, factor, group_by, compare_group_by, row_condition, compare_row_condition (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_table_row_count_to_equal_other_table_times_factor: {arguments: {compare_model: ref('other'), factor: 2}} -#}
{% test expect_table_row_count_to_equal_other_table_times_factor(
    model,
    compare_model,
    factor,
    group_by=none,
    compare_group_by=none,
    row_condition=none,
    compare_row_condition=none
) %}
    {{ lakebed.expectation_equal(
        model, 'count(*)', compare_model, 'count(*) * ' ~ factor, group_by, compare_group_by,
        row_condition, compare_row_condition
    ) }}
{% endtest %}
