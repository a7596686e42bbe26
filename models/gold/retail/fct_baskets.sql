{%- set lines = ref('fct_sales_lines') -%}
with lines as (
    select * from {{ lines }}
    {%- if is_incremental() %}
    where basket_id in (select basket_id from {{ lines }} where {{ lakebed.new_batches(lines) }})
    {%- endif %}
),

-- All lines of a basket share its household, store and time.
final as (
    select
        household_key,
        store_key,
        date_key,
        household_id,
        basket_id,
        store_id,
        count(*) as lines,
        cast(sum(quantity) as bigint) as quantity,
        cast(sum(sales_value) as decimal(18, 2)) as sales_value,
        cast(sum(retail_disc) as decimal(18, 2)) as retail_disc,
        cast(sum(coupon_disc) as decimal(18, 2)) as coupon_disc,
        cast(sum(coupon_match_disc) as decimal(18, 2)) as coupon_match_disc,
        sum(coupon_disc) > 0 as has_coupon,
        sale_date,
        sold_at,
        max(_batch_id) as _batch_id
    from lines
    group by
        household_key,
        store_key,
        date_key,
        household_id,
        basket_id,
        store_id,
        sale_date,
        sold_at
)

select * from final
