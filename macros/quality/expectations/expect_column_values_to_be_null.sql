{#- Every value is NULL. -#}
{% test expect_column_values_to_be_null(model, column_name, row_condition=none) %}
    {{ lakebed.rows_breaking(model, column_name ~ ' is null', row_condition) }}
{% endtest %}
