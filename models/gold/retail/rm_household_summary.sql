{%- set baskets = ref('fct_baskets') -%}
-- Household 0 is nobody: the sales of those who were erased (docs/erasure.md).
with baskets as (
    select * from {{ baskets }}
    where
        household_id != 0
    {%- if is_incremental() %}
        and household_id in (select household_id from {{ baskets }} where {{ lakebed.new_batches(baskets) }})
    {%- endif %}
),

final as (
    select
        household_id,
        count(*) as baskets,
        cast(sum(lines) as bigint) as lines,
        count(distinct store_id) as stores,
        cast(sum(sales_value) as decimal(18, 2)) as sales_value,
        cast(sum(retail_disc + coupon_disc + coupon_match_disc) as decimal(18, 2)) as discounts,
        cast(sum(case when has_coupon then 1 else 0 end) as bigint) as baskets_with_coupon,
        min(sold_at) as first_sold_at,
        max(sold_at) as last_sold_at
    from baskets
    group by household_id
)

select * from final
