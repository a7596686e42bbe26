{#- Generic test: every value does not match a LIKE pattern. NULLs pass. Arguments: column_name,
    like_pattern, row_condition (see _expectations.yml). Returns: what breaks it, one row each.
    Engines: DuckDB, Spark.
    Example: lakebed.expect_column_values_to_not_match_like_pattern: {arguments: {like_pattern: 'A%'}} -#}
{% test expect_column_values_to_not_match_like_pattern(model, column_name, like_pattern, row_condition=none) %}
    {{ lakebed.expectation_rows(model, 'not ' ~ lakebed.matches_like(column_name, like_pattern), row_condition) }}
{% endtest %}
