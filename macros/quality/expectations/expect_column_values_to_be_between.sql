{#- Generic test: every value is between two bounds. NULLs pass. Arguments: column_name, min_value,
    max_value, row_condition, strictly (see _expectations.yml). Returns: what breaks it, one row
    each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_values_to_be_between: {arguments: {min_value: 0, max_value: 100}} -#}
{% test expect_column_values_to_be_between(
    model,
    column_name,
    min_value=none,
    max_value=none,
    row_condition=none,
    strictly=false
) %}
    {%- set holds = lakebed.expectation_bounds(column_name, min_value, max_value, strictly) -%}
    {{ lakebed.expectation_rows(model, holds, row_condition) }}
{% endtest %}
