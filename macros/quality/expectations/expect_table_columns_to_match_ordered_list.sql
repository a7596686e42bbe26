{#- These columns are there and no others, in this order. -#}
{% test expect_table_columns_to_match_ordered_list(model, column_list, transform="upper") %}
    {%- set names = lakebed.column_names(model, transform) -%}
    {%- set wanted = [] -%}
    {%- for column in column_list %}{% do wanted.append(lakebed.transformed(column, transform)) %}{% endfor %}
    {{ lakebed.offences(['found ' ~ names | join(', ')] if execute and names != wanted else []) }}
{% endtest %}
