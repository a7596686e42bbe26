{#- Generic test: column A is above column B in every row. NULL on either side passes. Arguments:
    column_A, column_B, or_equal, row_condition (see _expectations.yml). Returns: what breaks
    it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_pair_values_A_to_be_greater_than_B: {arguments: {column_A: a, column_B: b}} -#}
{% test expect_column_pair_values_A_to_be_greater_than_B(
    model,
    column_A,
    column_B,
    or_equal=false,
    row_condition=none
) %}
    {{ lakebed.expectation_rows(model, column_A ~ (' >= ' if or_equal else ' > ') ~ column_B, row_condition) }}
{% endtest %}
