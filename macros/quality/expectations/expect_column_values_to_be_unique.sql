{#- Generic test: no value occurs twice. NULLs pass. Arguments: column_name, row_condition (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: data_tests: [lakebed.expect_column_values_to_be_unique] -#}
{% test expect_column_values_to_be_unique(model, column_name, row_condition=none) %}
    {{ lakebed.test_expect_compound_columns_to_be_unique(model, [column_name], row_condition=row_condition) }}
{% endtest %}
