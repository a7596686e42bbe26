{#- Generic test: the number of columns is between two bounds. Arguments: min_value, max_value (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_table_column_count_to_be_between: {arguments: {min_value: 3}} -#}
{% test expect_table_column_count_to_be_between(model, min_value=none, max_value=none) %}
    {%- set count = adapter.get_columns_in_relation(model) | length if execute else 0 -%}
    {%- set holds = lakebed.expectation_bounds('observed', min_value, max_value, false) -%}
    select * from (select {{ count }} as observed) as counted
    where not ({{ holds }})
{% endtest %}
