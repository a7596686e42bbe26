{#- Each group has a row whose time is within `interval` dateparts before the run (as_of). -#}
{% test expect_grouped_row_values_to_have_recent_data(model, group_by, timestamp_column, datepart, interval, row_condition=none) %}
    {%- set groups = [group_by] if group_by is string else group_by %}
    select
        {{ groups | join(', ') }},
        max(case when {{ timestamp_column }} <= {{ lakebed.as_of() }} then {{ timestamp_column }} end) as most_recent
    from {{ model }}
    {%- if row_condition %}
    where {{ row_condition }}
    {%- endif %}
    group by {{ groups | join(', ') }}
    having coalesce(
        cast(max(case when {{ timestamp_column }} <= {{ lakebed.as_of() }} then {{ timestamp_column }} end) as timestamp)
        < {{ dbt.dateadd(datepart, -interval, lakebed.as_of()) }}, true
    )
{% endtest %}
