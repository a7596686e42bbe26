{#- The column has this type; synonyms of engines (string, varchar, text) are one. -#}
{% test expect_column_values_to_be_of_type(model, column_name, column_type) %}
    {{ lakebed.offences(lakebed.type_offences(model, column_name, [column_type])) }}
{% endtest %}
