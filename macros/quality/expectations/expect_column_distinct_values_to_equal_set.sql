{#- The different values are those of the set, all of them and no others. -#}
{% test expect_column_distinct_values_to_equal_set(model, column_name, value_set, quote_values=true, row_condition=none) %}
    with found as (
        select distinct {{ column_name }} as value_found
        from {{ model }}
        where {{ column_name }} is not null
            {%- if row_condition %}
            and ({{ row_condition }})
            {%- endif %}
    ),

    wanted as (
        {%- for value in value_set %}
        select {{ lakebed.literals([value], quote_values) }} as value_wanted
        {{ 'union' if not loop.last }}
        {%- endfor %}
    )

    select value_found as unexpected from found
    where value_found not in (select value_wanted from wanted)
    union all
    select value_wanted as missing from wanted
    where value_wanted not in (select value_found from found)
{% endtest %}
