{#- Every value is in the set; NULL passes. -#}
{% test expect_column_values_to_be_in_set(model, column_name, value_set, quote_values=true, row_condition=none) %}
    {{ lakebed.rows_breaking(model, column_name ~ ' in (' ~ lakebed.literals(value_set, quote_values) ~ ')', row_condition) }}
{% endtest %}
