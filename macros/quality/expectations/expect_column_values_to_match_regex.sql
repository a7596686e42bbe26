{#- Generic test: every value matches a regular expression. NULLs pass. Arguments: column_name,
    regex, row_condition, is_raw, flags (see _expectations.yml). Returns: what breaks it, one
    row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_values_to_match_regex: {arguments: {regex: '^[0-9]+$'}} -#}
{% test expect_column_values_to_match_regex(
    model,
    column_name,
    regex,
    row_condition=none,
    is_raw=false,
    flags=''
) %}
    {{ lakebed.expectation_rows(model, lakebed.matches_regex(column_name, regex, flags), row_condition) }}
{% endtest %}
