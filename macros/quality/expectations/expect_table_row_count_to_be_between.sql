{#- Generic test: the number of rows is between two bounds, 0 for an empty table. With groups, only
    groups that are there are checked. Arguments: min_value, max_value, group_by, row_condition,
    strictly (see _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB,
    Spark.
    Example: lakebed.expect_table_row_count_to_be_between: {arguments: {min_value: 1}} -#}
{% test expect_table_row_count_to_be_between(
    model,
    min_value=none,
    max_value=none,
    group_by=none,
    row_condition=none,
    strictly=false
) %}
    {%- set holds = lakebed.expectation_bounds('observed', min_value, max_value, strictly) -%}
    {{ lakebed.expectation_groups(model, 'count(*)', holds, group_by, row_condition) }}
{% endtest %}
