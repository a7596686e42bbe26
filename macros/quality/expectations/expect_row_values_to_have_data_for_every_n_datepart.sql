{#- There is a row in every step of `interval` dateparts from test_start_date (or the first row) until before test_end_date (or up to the last row). exclusion_condition is on the step, named `date_<date_part>`. -#}
{% test expect_row_values_to_have_data_for_every_n_datepart(model, date_col, date_part="day", interval=1, row_condition=none, exclusion_condition=none, test_start_date=none, test_end_date=none) %}
    with rows_tested as (
        select {{ dbt.date_trunc(date_part, date_col) }} as row_period
        from {{ model }}
        {%- if row_condition %}
        where {{ row_condition }}
        {%- endif %}
    ),

    bounds as (
        select
            {{ "cast('" ~ test_start_date ~ "' as timestamp)" if test_start_date else 'cast(min(row_period) as timestamp)' }} as first_period,
            {{ dbt.dateadd(date_part, -1, "cast('" ~ test_end_date ~ "' as timestamp)") if test_end_date else 'cast(max(row_period) as timestamp)' }} as last_period
        from rows_tested
    ),

    spine as (
        {{ lakebed.period_spine('bounds', 'first_period', 'last_period', date_part, interval or 1) }}
    ),

    final as (
        select spine.period_start as date_{{ date_part }}
        from spine
        left join rows_tested
            on rows_tested.row_period >= spine.period_start
            and rows_tested.row_period < {{ dbt.dateadd(date_part, interval or 1, 'spine.period_start') }}
        where rows_tested.row_period is null
    )

    select * from final
    {%- if exclusion_condition %}
    where not ({{ exclusion_condition }})
    {%- endif %}
{% endtest %}
