{#- Generic test: two columns are equal in every row. NULL on either side passes. Arguments:
    column_A, column_B, row_condition (see _expectations.yml). Returns: what breaks it, one row
    each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_pair_values_to_be_equal: {arguments: {column_A: a, column_B: b}} -#}
{% test expect_column_pair_values_to_be_equal(model, column_A, column_B, row_condition=none) %}
    {{ lakebed.expectation_rows(model, column_A ~ ' = ' ~ column_B, row_condition) }}
{% endtest %}
