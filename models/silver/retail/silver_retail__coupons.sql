with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__coupons'), 'silver_retail__coupons', lakebed.new_batches(ref('bronze_retail__coupons'))) }}
),

valid as (
    {{ lakebed.valid_rows('checked') }}
),

-- What was received first stands; a later row under the same key is an exact
-- duplicate, or contradicts it and goes to quarantine.
first_received as (
    {{ lakebed.deduplicate('valid', ['coupon_upc', 'product_id', 'campaign_id'], '_batch_id, _file_name, _line') }}
),

final as (
    select first_received.*
    from first_received
    {% if is_incremental() %}
    left join {{ this }} as held
        on first_received.coupon_upc = held.coupon_upc
            and first_received.product_id = held.product_id
            and first_received.campaign_id = held.campaign_id
    where held.coupon_upc is null
    {% endif %}
)

select * from final
