{#- Generic test: values fall from row to row (or stay, if not strictly). NULLs are left out.
    Arguments: column_name, sort_column, strictly, row_condition, group_by, step (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_values_to_be_decreasing: {arguments: {sort_column: id}} -#}
{% test expect_column_values_to_be_decreasing(
    model,
    column_name,
    sort_column=none,
    strictly=true,
    row_condition=none,
    group_by=none,
    step=none
) %}
    {{ lakebed.expectation_ordered(
        model, column_name, '<' ~ ('' if strictly else '='), 'value_field_lag - value_field',
        sort_column, row_condition, group_by, step
    ) }}
{% endtest %}
