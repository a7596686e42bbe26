{#- The column is there, and at that position (1 is the first) when one is given. -#}
{% test expect_column_to_exist(model, column_name, column_index=none, transform="upper") %}
    {%- set names = lakebed.column_names(model, transform) -%}
    {%- set name = lakebed.transformed(column_name, transform) -%}
    {%- set offences = [] -%}
    {%- if execute and name not in names -%}
        {%- do offences.append(column_name) -%}
    {%- elif execute and column_index is not none and names[column_index - 1] != name -%}
        {%- do offences.append(column_name ~ ' is not column ' ~ column_index) -%}
    {%- endif %}
    {{ lakebed.offences(offences) }}
{% endtest %}
