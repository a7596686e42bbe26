{%- set lines = ref('fct_sales_lines') -%}
with lines as (
    select * from {{ lines }}
    {%- if is_incremental() %}
    where sale_date in (select sale_date from {{ lines }} where {{ lakebed.new_batches(lines) }})
    {%- endif %}
),

final as (
    select
        store_key,
        date_key,
        store_id,
        count(*) as lines,
        count(distinct basket_id) as baskets,
        cast(sum(quantity) as bigint) as quantity,
        cast(sum(sales_value) as decimal(18, 2)) as sales_value,
        cast(sum(retail_disc + coupon_disc + coupon_match_disc) as decimal(18, 2)) as discounts,
        sale_date
    from lines
    group by store_key, date_key, store_id, sale_date
)

select * from final
