{#- None of these columns is there. -#}
{% test expect_table_columns_to_not_contain_set(model, column_list, transform="upper") %}
    {%- set names = lakebed.column_names(model, transform) -%}
    {%- set offences = [] -%}
    {%- for column in column_list if execute and lakebed.transformed(column, transform) in names %}{% do offences.append(column) %}{% endfor %}
    {{ lakebed.offences(offences) }}
{% endtest %}
