{#- No value is in the set. -#}
{% test expect_column_values_to_not_be_in_set(model, column_name, value_set, quote_values=true, row_condition=none) %}
    {{ lakebed.rows_breaking(model, column_name ~ ' not in (' ~ lakebed.literals(value_set, quote_values) ~ ')', row_condition) }}
{% endtest %}
