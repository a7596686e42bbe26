{#- These columns are there and no others, in any order. -#}
{% test expect_table_columns_to_match_set(model, column_list, transform="upper") %}
    {%- set names = lakebed.column_names(model, transform) -%}
    {%- set wanted = [] -%}
    {%- for column in column_list %}{% do wanted.append(lakebed.transformed(column, transform)) %}{% endfor -%}
    {%- set offences = [] -%}
    {%- if execute -%}
        {%- for column in wanted if column not in names %}{% do offences.append('missing ' ~ column) %}{% endfor -%}
        {%- for column in names if column not in wanted %}{% do offences.append('unexpected ' ~ column) %}{% endfor -%}
    {%- endif %}
    {{ lakebed.offences(offences) }}
{% endtest %}
