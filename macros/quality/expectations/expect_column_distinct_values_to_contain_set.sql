{#- Generic test: every value of a set occurs in the column. Arguments: column_name, value_set,
    quote_values, row_condition (see _expectations.yml). Returns: what breaks it, one row each.
    Engines: DuckDB, Spark.
    Example: lakebed.expect_column_distinct_values_to_contain_set: {arguments: {value_set: [a, b]}} -#}
{% test expect_column_distinct_values_to_contain_set(
    model,
    column_name,
    value_set,
    quote_values=true,
    row_condition=none
) %}
    {{ lakebed.expectation_missing_values(model, column_name, value_set, quote_values, row_condition) }}
{% endtest %}
