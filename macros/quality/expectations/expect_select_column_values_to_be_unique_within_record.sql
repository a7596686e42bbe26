{#- Within a row no two of these columns are equal. -#}
{% test expect_select_column_values_to_be_unique_within_record(model, column_list, quote_columns=false, ignore_row_if="all_values_are_missing", row_condition=none) %}
    {%- set columns = lakebed.quoted(column_list, quote_columns) -%}
    {%- set pairs = [] -%}
    {%- for left in columns %}
        {%- for right in columns[loop.index:] %}{% do pairs.append(left ~ ' = ' ~ right) %}{% endfor -%}
    {%- endfor %}
    select {{ columns | join(', ') }}
    from {{ model }}
    where {{ lakebed.rows_kept(columns, ignore_row_if) }}
        and ({{ pairs | join(' or ') }})
        {%- if row_condition %}
        and ({{ row_condition }})
        {%- endif %}
{% endtest %}
