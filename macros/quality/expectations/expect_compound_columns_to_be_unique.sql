{#- No combination of values occurs twice. ignore_row_if: all_values_are_missing, any_value_is_missing or never. -#}
{% test expect_compound_columns_to_be_unique(model, column_list, quote_columns=false, ignore_row_if="all_values_are_missing", row_condition=none) %}
    {%- set columns = lakebed.quoted(column_list, quote_columns) %}
    select
        {{ columns | join(', ') }},
        count(*) as occurrences
    from {{ model }}
    where {{ lakebed.rows_kept(columns, ignore_row_if) }}
        {%- if row_condition %}
        and ({{ row_condition }})
        {%- endif %}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}
