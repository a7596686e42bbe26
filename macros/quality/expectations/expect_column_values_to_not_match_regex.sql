{#- No value matches the regular expression somewhere; a match of no length counts. A backslash is written once. -#}
{% test expect_column_values_to_not_match_regex(model, column_name, regex, row_condition=none, is_raw=false, flags="") %}
    {{ lakebed.rows_breaking(model, 'not ' ~ lakebed.regex_matches(column_name, regex, flags), row_condition) }}
{% endtest %}
