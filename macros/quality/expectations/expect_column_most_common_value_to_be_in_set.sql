{#- The top_n most common values are in the set; with ties_okay one of those tied at a rank is enough. -#}
{% test expect_column_most_common_value_to_be_in_set(model, column_name, value_set, top_n=1, quote_values=true, data_type="string", row_condition=none, ties_okay=false) %}
    with counted as (
        select
            {{ column_name }} as value_found,
            dense_rank() over (order by count(*) desc) as rank_found
        from {{ model }}
        where {{ column_name }} is not null
            {%- if row_condition %}
            and ({{ row_condition }})
            {%- endif %}
        group by {{ column_name }}
    ),

    judged as (
        select
            value_found,
            rank_found,
            cast(value_found as {{ data_type }}) in ({{ lakebed.literals(value_set, quote_values) }}) as is_in_set
        from counted
        where rank_found <= {{ top_n }}
    )

    select * from judged
    where not is_in_set
        {%- if ties_okay %}
        and rank_found not in (select rank_found from judged where is_in_set)
        {%- endif %}
{% endtest %}
