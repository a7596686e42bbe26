{#- Generic test: each group's latest timestamp is no older than an interval before lakebed.as_of().
    Later ones and NULLs are ignored, and with them groups that have no other. Arguments:
    group_by, timestamp_column, datepart, interval, row_condition (see _expectations.yml).
    Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_grouped_row_values_to_have_recent_data: {arguments: {group_by: [store_id], timestamp_column: sold_at, datepart: day, interval: 1}} -#}
{% test expect_grouped_row_values_to_have_recent_data(
    model,
    group_by,
    timestamp_column,
    datepart,
    interval,
    row_condition=none
) %}
    {%- set groups = lakebed.expectation_list(group_by) -%}
    {%- set moment = 'cast(' ~ timestamp_column ~ ' as timestamp)' %}
    with latest as (
        select
            {%- for group in groups %}
            {{ group }} as col_{{ loop.index }},
            {%- endfor %}
            max({{ moment }}) as latest_timestamp_column
        from {{ model }}
        where
            {{ moment }} <= {{ lakebed.as_of() }}
            {%- if row_condition %}
            and ({{ row_condition }})
            {%- endif %}
        {%- if groups %}
        group by {{ groups | join(', ') }}
        {%- endif %}
    )

    select * from latest
    where latest_timestamp_column < {{ lakebed.add_dateparts(datepart, -1 * interval, lakebed.as_of()) }}
{% endtest %}
