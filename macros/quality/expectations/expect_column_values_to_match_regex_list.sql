{#- Every value matches any (or all) of the regular expressions. -#}
{% test expect_column_values_to_match_regex_list(model, column_name, regex_list, match_on="any", row_condition=none, is_raw=false, flags="") %}
    {%- set matches = [] -%}
    {%- for regex in regex_list %}{% do matches.append(lakebed.regex_matches(column_name, regex, flags)) %}{% endfor %}
    {{ lakebed.rows_breaking(model, '(' ~ matches | join(' or ' if match_on == 'any' else ' and ') ~ ')', row_condition) }}
{% endtest %}
