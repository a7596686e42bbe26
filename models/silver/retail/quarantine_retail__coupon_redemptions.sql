{%- set bronze = ref('bronze_retail__coupon_redemptions') -%}
{%- set keys = ['household_id', 'coupon_upc', 'campaign_id', 'redemption_date'] -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__coupon_redemptions', lakebed.new_batches(bronze)) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__coupon_redemptions'), keys) }}
)

select * from final
