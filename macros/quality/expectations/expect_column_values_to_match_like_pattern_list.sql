{#- Every value matches any (or all) of the LIKE patterns. -#}
{% test expect_column_values_to_match_like_pattern_list(model, column_name, like_pattern_list, match_on="any", row_condition=none) %}
    {%- set matches = [] -%}
    {%- for pattern in like_pattern_list %}{% do matches.append(lakebed.like(column_name, pattern)) %}{% endfor %}
    {{ lakebed.rows_breaking(model, '(' ~ matches | join(' or ' if match_on == 'any' else ' and ') ~ ')', row_condition) }}
{% endtest %}
