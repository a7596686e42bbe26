{#- Generic test: every value matches any (or all) of several regular expressions. NULLs pass.
    Arguments: column_name, regex_list, match_on, row_condition, is_raw, flags (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_values_to_match_regex_list: {arguments: {regex_list: ['A']}} -#}
{% test expect_column_values_to_match_regex_list(
    model,
    column_name,
    regex_list,
    match_on='any',
    row_condition=none,
    is_raw=false,
    flags=''
) %}
    {%- set matches = [] -%}
    {%- for pattern in regex_list -%}
        {%- do matches.append(lakebed.matches_regex(column_name, pattern, flags)) -%}
    {%- endfor -%}
    {{ lakebed.expectation_rows(model, matches | join(' and ' if match_on == 'all' else ' or '), row_condition) }}
{% endtest %}
