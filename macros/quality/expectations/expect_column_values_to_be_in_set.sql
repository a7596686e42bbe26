{#- Generic test: every value is one of a set. NULL is not in a set, so it fails unless the set has
    a null; `row_condition` leaves it out. Arguments: column_name, value_set, quote_values,
    row_condition (see _expectations.yml). Returns: what breaks it, one row each. Engines:
    DuckDB, Spark.
    Example: lakebed.expect_column_values_to_be_in_set: {arguments: {value_set: [a, b]}} -#}
{% test expect_column_values_to_be_in_set(model, column_name, value_set, quote_values=true, row_condition=none) %}
    {{ lakebed.expectation_rows(model, lakebed.expectation_in_set(column_name, value_set, quote_values), row_condition) }}
{% endtest %}
