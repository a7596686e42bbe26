{#- There is a row whose time is within `interval` dateparts before the run (as_of), and not after it. -#}
{% test expect_row_values_to_have_recent_data(model, column_name, datepart, interval, row_condition=none) %}
    select max({{ column_name }}) as most_recent
    from {{ model }}
    where {{ column_name }} <= {{ lakebed.as_of() }}
        {%- if row_condition %}
        and ({{ row_condition }})
        {%- endif %}
    having max({{ column_name }}) is null
        or cast(max({{ column_name }}) as timestamp) < {{ dbt.dateadd(datepart, -interval, lakebed.as_of()) }}
{% endtest %}
