{#- No value matches the LIKE pattern. -#}
{% test expect_column_values_to_not_match_like_pattern(model, column_name, like_pattern, row_condition=none) %}
    {{ lakebed.rows_breaking(model, 'not ' ~ lakebed.like(column_name, like_pattern), row_condition) }}
{% endtest %}
