-- Customers by the month of their first payment: how many stay, and with how much.
with cohorts as (
    select
        user_id,
        cast(date_trunc('month', movement_date) as date) as cohort_month
    from {{ ref('fct_mrr_movements') }}
    where movement = 'new'
),

sizes as (
    select
        cohort_month,
        count(*) as customers
    from cohorts
    group by cohort_month
),

months as (
    select
        month_start_date,
        max(calendar_date) as closing_date
    from {{ ref('dim_dates') }}
    group by month_start_date
),

known as (
    select max(calendar_date) as last_date from {{ ref('agg_daily_mrr') }}
),

held as (
    select
        cohorts.cohort_month,
        months.month_start_date,
        count(distinct days.user_id) as active_customers,
        sum(days.mrr) as mrr
    from {{ ref('fct_subscription_days') }} as days
    inner join months on days.calendar_date = months.closing_date
    inner join cohorts on days.user_id = cohorts.user_id
    where days.mrr != 0
    group by cohorts.cohort_month, months.month_start_date
),

-- A month that is over has a row, also when nobody is left.
grid as (
    select
        sizes.cohort_month,
        sizes.customers,
        months.month_start_date
    from sizes
    inner join months on sizes.cohort_month <= months.month_start_date
    inner join known on months.closing_date <= known.last_date
),

final as (
    select
        cast(
            (year(grid.month_start_date) - year(grid.cohort_month)) * 12
            + month(grid.month_start_date) - month(grid.cohort_month) as int
        ) as months_since,
        grid.customers,
        coalesce(held.active_customers, 0) as active_customers,
        cast(coalesce(held.active_customers, 0) as double) / grid.customers as retention,
        cast(coalesce(held.mrr, 0) as decimal(18, 2)) as mrr,
        grid.cohort_month,
        grid.month_start_date
    from grid
    left join held on grid.cohort_month = held.cohort_month and grid.month_start_date = held.month_start_date
)

select * from final
