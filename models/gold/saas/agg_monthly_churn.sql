-- Customers who paid at the end of a month, and what became of them by the end of the next.
with held as (
    select
        user_id,
        calendar_date,
        sum(mrr) as mrr
    from {{ ref('fct_subscription_days') }}
    where mrr != 0
    group by user_id, calendar_date
),

known as (
    select
        min(calendar_date) as first_date,
        max(calendar_date) as last_date
    from {{ ref('agg_daily_mrr') }}
),

months as (
    select
        dates.month_start_date,
        max(dates.calendar_date) as closing_date,
        lag(max(dates.calendar_date)) over (order by dates.month_start_date) as opening_date
    from {{ ref('dim_dates') }} as dates
    inner join known on dates.month_start_date >= date_trunc('month', known.first_date)
    group by dates.month_start_date, known.last_date
    having max(dates.calendar_date) <= known.last_date
),

opening as (
    select
        months.month_start_date,
        months.closing_date,
        held.user_id,
        held.mrr
    from months
    inner join held on months.opening_date = held.calendar_date
),

compared as (
    select
        opening.month_start_date,
        opening.mrr as opening_mrr,
        coalesce(closing.mrr, 0) as closing_mrr,
        case when coalesce(closing.mrr, 0) < opening.mrr then coalesce(closing.mrr, 0) else opening.mrr end as kept_mrr
    from opening
    left join held as closing
        on opening.user_id = closing.user_id and opening.closing_date = closing.calendar_date
),

final as (
    select
        count(*) as opening_customers,
        cast(sum(case when closing_mrr = 0 then 1 else 0 end) as bigint) as churned_customers,
        cast(sum(case when closing_mrr = 0 then 1 else 0 end) as double) / count(*) as customer_churn,
        cast(sum(opening_mrr) as decimal(18, 2)) as opening_mrr,
        cast(sum(opening_mrr - kept_mrr) as decimal(18, 2)) as lost_mrr,
        cast(sum(closing_mrr) as decimal(18, 2)) as closing_mrr,
        cast(sum(kept_mrr) as double) / cast(sum(opening_mrr) as double) as gross_retention,
        cast(sum(closing_mrr) as double) / cast(sum(opening_mrr) as double) as net_retention,
        month_start_date
    from compared
    group by month_start_date
)

select * from final
