{#- Generic test: every value is NULL. Arguments: column_name, row_condition (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: data_tests: [lakebed.expect_column_values_to_be_null] -#}
{% test expect_column_values_to_be_null(model, column_name, row_condition=none) %}
    {{ lakebed.expectation_rows(model, column_name ~ ' is null', row_condition) }}
{% endtest %}
