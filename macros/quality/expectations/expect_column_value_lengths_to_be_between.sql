{#- Generic test: every text's length in characters is between two bounds. NULLs pass. Arguments:
    column_name, min_value, max_value, row_condition, strictly (see _expectations.yml). Returns:
    what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_value_lengths_to_be_between: {arguments: {min_value: 1, max_value: 20}} -#}
{% test expect_column_value_lengths_to_be_between(
    model,
    column_name,
    min_value=none,
    max_value=none,
    row_condition=none,
    strictly=false
) %}
    {%- set holds = lakebed.expectation_bounds(dbt.length(column_name) | trim, min_value, max_value, strictly) -%}
    {{ lakebed.expectation_rows(model, holds, row_condition) }}
{% endtest %}
