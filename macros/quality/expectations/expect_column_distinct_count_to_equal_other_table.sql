{#- Generic test: two tables have the same number of distinct values in a column, NULL not counted.
    Arguments: compare_model, column_name, compare_column_name, row_condition,
    compare_row_condition (see _expectations.yml). Returns: what breaks it, one row each.
    Engines: DuckDB, Spark.
    Example: lakebed.expect_column_distinct_count_to_equal_other_table: {arguments: {compare_model: ref('other')}} -#}
{% test expect_column_distinct_count_to_equal_other_table(
    model,
    compare_model,
    column_name,
    compare_column_name=none,
    row_condition=none,
    compare_row_condition=none
) %}
    {{ lakebed.expectation_equal(
        model, 'count(distinct ' ~ column_name ~ ')',
        compare_model, 'count(distinct ' ~ (compare_column_name or column_name) ~ ')',
        row_condition=row_condition, compare_row_condition=compare_row_condition
    ) }}
{% endtest %}
