{#- Generic test: every value matches any (or all) of several LIKE patterns. NULLs pass. Arguments:
    column_name, like_pattern_list, match_on, row_condition (see _expectations.yml). Returns:
    what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_values_to_match_like_pattern_list: {arguments: {like_pattern_list: ['A']}} -#}
{% test expect_column_values_to_match_like_pattern_list(
    model,
    column_name,
    like_pattern_list,
    match_on='any',
    row_condition=none
) %}
    {%- set matches = [] -%}
    {%- for pattern in like_pattern_list -%}
        {%- do matches.append(lakebed.matches_like(column_name, pattern)) -%}
    {%- endfor -%}
    {{ lakebed.expectation_rows(model, matches | join(' and ' if match_on == 'all' else ' or '), row_condition) }}
{% endtest %}
