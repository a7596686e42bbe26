{#- Along sort_column (in each group) every value is smaller than the one before, or equal when not strictly; with `step`, by exactly that much. -#}
{% test expect_column_values_to_be_decreasing(model, column_name, sort_column=none, strictly=true, row_condition=none, group_by=none, step=none) %}
    with ordered as (
        select
            {{ column_name }} as value_here,
            lag({{ column_name }}) over (
                {{ 'partition by ' ~ ([group_by] if group_by is string else group_by) | join(', ') if group_by }}
                order by {{ sort_column or column_name }}
            ) as value_before
        from {{ model }}
        {%- if row_condition %}
        where {{ row_condition }}
        {%- endif %}
    )

    select * from ordered
    where not (value_here <{{ '' if strictly else '=' }} value_before)
        {%- if step is not none %}
        or abs(value_here - value_before) != {{ step }}
        {%- endif %}
{% endtest %}
