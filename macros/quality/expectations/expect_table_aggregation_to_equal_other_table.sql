{#- An aggregate (of each group) equals that of another table, within an absolute or a relative (0.01 is 1 %) tolerance. -#}
{% test expect_table_aggregation_to_equal_other_table(model, expression, compare_model, compare_expression=none, group_by=none, compare_group_by=none, row_condition=none, compare_row_condition=none, tolerance=0.0, tolerance_percent=none) %}
    {{ lakebed.aggregates_differing(model, expression, compare_model, compare_expression or expression, group_by, compare_group_by, row_condition, compare_row_condition, tolerance, tolerance_percent) }}
{% endtest %}
