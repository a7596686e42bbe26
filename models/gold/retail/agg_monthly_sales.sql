-- From the days' sums and counts, never from their averages. A basket belongs to one
-- day and one store, so counts of baskets add up.
with days as (
    select * from {{ ref('agg_daily_sales') }}
),

final as (
    select
        store_key,
        store_id,
        sum(lines) as lines,
        sum(baskets) as baskets,
        cast(sum(quantity) as bigint) as quantity,
        cast(sum(sales_value) as decimal(18, 2)) as sales_value,
        cast(sum(discounts) as decimal(18, 2)) as discounts,
        cast(date_trunc('month', sale_date) as date) as month_start_date
    from days
    group by store_key, store_id, cast(date_trunc('month', sale_date) as date)
)

select
    store_key,
    store_id,
    cast(lines as bigint) as lines,
    cast(baskets as bigint) as baskets,
    quantity,
    sales_value,
    discounts,
    month_start_date
from final
