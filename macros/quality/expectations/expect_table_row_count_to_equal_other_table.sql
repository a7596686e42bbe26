{#- Generic test: two tables have the same number of rows (or `factor` times the other's), in every
    group. Arguments: compare_model, group_by, compare_group_by, factor, row_condition,
    compare_row_condition (see _expectations.yml). Returns: what breaks it, one row each.
    Engines: DuckDB, Spark.
    Example: lakebed.expect_table_row_count_to_equal_other_table: {arguments: {compare_model: ref('other')}} -#}
{% test expect_table_row_count_to_equal_other_table(
    model,
    compare_model,
    group_by=none,
    compare_group_by=none,
    factor=1,
    row_condition=none,
    compare_row_condition=none
) %}
    {{ lakebed.expectation_equal(
        model, 'count(*)', compare_model, 'count(*) * ' ~ factor, group_by, compare_group_by,
        row_condition, compare_row_condition
    ) }}
{% endtest %}
