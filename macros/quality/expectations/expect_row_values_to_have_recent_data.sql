{#- Generic test: the latest timestamp is no older than an interval before lakebed.as_of(). Later
    ones and NULLs are ignored; a table without rows fails. Arguments: column_name, datepart,
    interval, row_condition (see _expectations.yml). Returns: what breaks it, one row each.
    Engines: DuckDB, Spark.
    Example: lakebed.expect_row_values_to_have_recent_data: {arguments: {datepart: day, interval: 1}} -#}
{% test expect_row_values_to_have_recent_data(model, column_name, datepart, interval, row_condition=none) %}
    {%- set moment = 'cast(' ~ column_name ~ ' as timestamp)' %}
    with latest as (
        select max({{ moment }}) as max_timestamp
        from {{ model }}
        where
            {{ moment }} <= {{ lakebed.as_of() }}
            {%- if row_condition %}
            and ({{ row_condition }})
            {%- endif %}
    )

    select * from latest
    where
        max_timestamp is null
        or max_timestamp < {{ lakebed.add_dateparts(datepart, -1 * interval, lakebed.as_of()) }}
{% endtest %}
