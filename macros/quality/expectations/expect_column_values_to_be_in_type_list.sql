{#- The column has one of these types. -#}
{% test expect_column_values_to_be_in_type_list(model, column_name, column_type_list) %}
    {{ lakebed.offences(lakebed.type_offences(model, column_name, column_type_list)) }}
{% endtest %}
