{#- Every value matches the LIKE pattern. -#}
{% test expect_column_values_to_match_like_pattern(model, column_name, like_pattern, row_condition=none) %}
    {{ lakebed.rows_breaking(model, '' ~ lakebed.like(column_name, like_pattern), row_condition) }}
{% endtest %}
