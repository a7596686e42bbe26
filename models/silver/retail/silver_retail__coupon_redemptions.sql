with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__coupon_redemptions'), 'silver_retail__coupon_redemptions', lakebed.new_batches(ref('bronze_retail__coupon_redemptions'))) }}
),

valid as (
    {{ lakebed.valid_rows('checked') }}
),

-- What was received first stands; a later row under the same key is an exact
-- duplicate, or contradicts it and goes to quarantine.
first_received as (
    {{ lakebed.deduplicate('valid', ['household_id', 'coupon_upc', 'campaign_id', 'redemption_date'], '_batch_id, _file_name, _line') }}
),

final as (
    select first_received.*
    from first_received
    {% if is_incremental() %}
    left join {{ this }} as held
        on first_received.household_id = held.household_id
            and first_received.coupon_upc = held.coupon_upc
            and first_received.campaign_id = held.campaign_id
            and first_received.redemption_date = held.redemption_date
    where held.household_id is null
    {% endif %}
)

select * from final
