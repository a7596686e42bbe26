{#- Generic test: an aggregate has the same value in two tables, in every group; a group that only
    one has counts as 0 in the other, as does NULL. Arguments: expression, compare_model,
    compare_expression, group_by, compare_group_by, row_condition, compare_row_condition,
    tolerance, tolerance_percent (see _expectations.yml). Returns: what breaks it, one row each.
    Engines: DuckDB, Spark.
    Example: lakebed.expect_table_aggregation_to_equal_other_table: {arguments: {expression: sum(amount), compare_model: ref('other')}} -#}
{% test expect_table_aggregation_to_equal_other_table(
    model,
    expression,
    compare_model,
    compare_expression=none,
    group_by=none,
    compare_group_by=none,
    row_condition=none,
    compare_row_condition=none,
    tolerance=0.0,
    tolerance_percent=none
) %}
    {{ lakebed.expectation_equal(
        model, expression, compare_model, compare_expression, group_by, compare_group_by,
        row_condition, compare_row_condition, tolerance, tolerance_percent
    ) }}
{% endtest %}
