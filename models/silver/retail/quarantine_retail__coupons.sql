{%- set bronze = ref('bronze_retail__coupons') -%}
{%- set keys = ['coupon_upc', 'product_id', 'campaign_id'] -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__coupons', lakebed.new_batches(bronze)) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__coupons'), keys) }}
)

select * from final
