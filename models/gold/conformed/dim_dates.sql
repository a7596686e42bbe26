with days as (
    {{ lakebed.date_spine('2016-01-01', '2035-12-31') }}
),

final as (
    select
        cast(year(date_day) * 10000 + month(date_day) * 100 + day(date_day) as int) as date_key,
        {{ lakebed.day_name('date_day') }} as day_name,
        {{ lakebed.month_name('date_day') }} as month_name,
        cast(year(date_day) as int) as year_number,
        cast(quarter(date_day) as int) as quarter_number,
        cast(month(date_day) as int) as month_number,
        cast(day(date_day) as int) as day_of_month,
        {{ lakebed.iso_weekday('date_day') }} as day_of_week,
        {{ lakebed.iso_weekday('date_day') }} >= 6 as is_weekend,
        date_day as calendar_date,
        cast(date_trunc('month', date_day) as date) as month_start_date
    from days
    union all
    select
        -1,
        'Unknown',
        'Unknown',
        null,
        null,
        null,
        null,
        null,
        null,
        null,
        null
)

select * from final
