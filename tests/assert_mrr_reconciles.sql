{{ config(enabled='saas' in env_var('LAKEBED_DOMAINS', '').split(','), meta={'patterns': ['pat-completeness-check']}) }}
-- On every day the movements lead from the opening to the closing MRR, which is that of the subscriptions
-- held at its end; and all events of subscriptions add up to the last.
with held as (
    select
        calendar_date,
        sum(mrr) as mrr
    from {{ ref('fct_subscription_days') }}
    group by calendar_date
),

days as (
    select
        daily.calendar_date,
        max(daily.calendar_date) over () as last_date,
        daily.closing_mrr,
        coalesce(held.mrr, 0) as held_mrr,
        daily.opening_mrr + daily.new_mrr + daily.reactivation_mrr + daily.expansion_mrr
        + daily.contraction_mrr + daily.churn_mrr as moved_mrr
    from {{ ref('agg_daily_mrr') }} as daily
    left join held on daily.calendar_date = held.calendar_date
),

events as (
    select coalesce(sum(mrr_change), 0) as mrr from {{ ref('fct_subscription_events') }}
),

final as (
    select days.*
    from days
    cross join events
    where
        days.closing_mrr != days.held_mrr
        or days.closing_mrr != days.moved_mrr
        or (days.last_date = days.calendar_date and days.closing_mrr != events.mrr)
)

select * from final
