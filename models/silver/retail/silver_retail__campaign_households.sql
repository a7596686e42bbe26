with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__campaign_households'), 'silver_retail__campaign_households', lakebed.new_batches(ref('bronze_retail__campaign_households'))) }}
),

valid as (
    {{ lakebed.valid_rows('checked') }}
),

-- What was received first stands; a later row under the same key is an exact
-- duplicate, or contradicts it and goes to quarantine.
first_received as (
    {{ lakebed.deduplicate('valid', ['campaign_id', 'household_id'], '_batch_id, _file_name, _line') }}
),

final as (
    select first_received.*
    from first_received
    {% if is_incremental() %}
    left join {{ this }} as held
        on first_received.campaign_id = held.campaign_id
            and first_received.household_id = held.household_id
    where held.campaign_id is null
    {% endif %}
)

select * from final
