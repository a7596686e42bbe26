{#- Generic test: every day (hour, week, month, ... or every n of them) from the first to the last
    has rows. The end is not checked itself; without rows, and without dates given, it passes.
    The clock plays no part. Arguments: date_col, date_part, interval, row_condition,
    exclusion_condition, test_start_date, test_end_date (see _expectations.yml). Returns: what
    breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_row_values_to_have_data_for_every_n_datepart: {arguments: {date_col: sold_at, date_part: day}} -#}
{% test expect_row_values_to_have_data_for_every_n_datepart(
    model,
    date_col,
    date_part='day',
    interval=none,
    row_condition=none,
    exclusion_condition=none,
    test_start_date=none,
    test_end_date=none
) %}
    {%- set step = interval or 1 -%}
    {%- set given_start = "cast('" ~ test_start_date ~ "' as timestamp)" if test_start_date else 'null' -%}
    {%- set given_end = "cast('" ~ test_end_date ~ "' as timestamp)" if test_end_date else 'null' -%}
    {%- set name = 'date_' ~ date_part %}
    with model_rows as (
        select {{ lakebed.start_of_datepart(date_part, date_col) }} as period_start
        from {{ model }}
        {%- if row_condition %}
        where {{ row_condition }}
        {%- endif %}
    ),

    bounds as (
        select
            {{ lakebed.start_of_datepart(date_part, 'coalesce(' ~ given_start ~ ', min(period_start))') }} as first_period,
            {{ lakebed.start_of_datepart(date_part, 'coalesce(' ~ given_end ~ ', max(period_start))') }} as end_period
        from model_rows
    ),

    counted_bounds as (
        select
            first_period,
            {{ lakebed.dateparts_between(date_part, 'first_period', 'end_period') }} as period_count
        from bounds
    ),

    steps as (
        select
            first_period,
            {{ lakebed.steps_below('period_count', step) }} as step_number
        from counted_bounds
    ),

    row_steps as (
        select
            {{ lakebed.dateparts_between(date_part, 'counted_bounds.first_period', 'model_rows.period_start') }}
                as row_number_of_period
        from model_rows
        cross join counted_bounds
        where model_rows.period_start >= counted_bounds.first_period
    ),

    row_counts as (
        select
            row_number_of_period - row_number_of_period % {{ step }} as step_number,
            count(*) as row_cnt
        from row_steps
        group by row_number_of_period - row_number_of_period % {{ step }}
    ),

    final as (
        select
            {{ lakebed.add_dateparts(date_part, 'steps.step_number', 'steps.first_period') }} as {{ name }},
            row_counts.step_number is null as is_missing,
            coalesce(row_counts.row_cnt, 0) as row_cnt
        from steps
        left join row_counts on steps.step_number = row_counts.step_number
    )

    select * from final
    where
        row_cnt = 0
        {%- if exclusion_condition %}
        and ({{ exclusion_condition }})
        {%- endif %}
{% endtest %}
