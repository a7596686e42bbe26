{#- Every value is within bounds; NULL passes. -#}
{% test expect_column_values_to_be_between(model, column_name, min_value=none, max_value=none, row_condition=none, strictly=false) %}
    {{ lakebed.rows_breaking(model, lakebed.between(column_name, min_value, max_value, strictly), row_condition) }}
{% endtest %}
