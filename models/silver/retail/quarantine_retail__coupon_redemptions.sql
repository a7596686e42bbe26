with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__coupon_redemptions'), 'silver_retail__coupon_redemptions', lakebed.new_batches(ref('bronze_retail__coupon_redemptions'))) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__coupon_redemptions'), ['household_id', 'coupon_upc', 'campaign_id', 'redemption_date']) }}
)

select * from final
