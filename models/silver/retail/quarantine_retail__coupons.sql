with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__coupons'), 'silver_retail__coupons', lakebed.new_batches(ref('bronze_retail__coupons'))) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__coupons'), ['coupon_upc', 'product_id', 'campaign_id']) }}
)

select * from final
