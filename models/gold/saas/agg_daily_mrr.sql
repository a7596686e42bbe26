{%- set movements = ['new', 'reactivation', 'expansion', 'contraction', 'churn'] -%}
with movements as (
    select * from {{ ref('fct_mrr_movements') }}
),

-- Days for which the log has something to say, those without a movement too.
known as (
    select
        min(cast(valid_from as date)) as first_date,
        max(cast(coalesce(valid_to, valid_from) as date)) as last_date
    from {{ ref('dim_subscriptions') }}
    where subscription_id is not null
),

days as (
    select
        dates.date_key,
        dates.calendar_date
    from {{ ref('dim_dates') }} as dates
    inner join known on dates.calendar_date between known.first_date and known.last_date
),

moved as (
    select
        days.date_key,
        {%- for movement in movements %}
        cast(
            sum(case when movements.movement = '{{ movement }}' then movements.mrr_change else 0 end) as decimal(18, 2)
        ) as {{ movement }}_mrr,
        {%- endfor %}
        cast(coalesce(sum(movements.mrr_change), 0) as decimal(18, 2)) as mrr_change,
        days.calendar_date
    from days
    left join movements on days.calendar_date = movements.movement_date
    group by days.date_key, days.calendar_date
),

closed as (
    select
        *,
        cast(sum(mrr_change) over (order by calendar_date) as decimal(18, 2)) as closing_mrr
    from moved
),

final as (
    select
        date_key,
        cast(closing_mrr - mrr_change as decimal(18, 2)) as opening_mrr,
        {%- for movement in movements %}
        {{ movement }}_mrr,
        {%- endfor %}
        closing_mrr,
        calendar_date
    from closed
)

select * from final
