{#- Generic test: every text has a given length in characters. NULLs pass. Arguments: column_name,
    value, row_condition (see _expectations.yml). Returns: what breaks it, one row each.
    Engines: DuckDB, Spark.
    Example: lakebed.expect_column_value_lengths_to_equal: {arguments: {value: 5}} -#}
{% test expect_column_value_lengths_to_equal(model, column_name, value, row_condition=none) %}
    {{ lakebed.expectation_rows(model, dbt.length(column_name) ~ ' = ' ~ value, row_condition) }}
{% endtest %}
