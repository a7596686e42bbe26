with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__households'), 'silver_retail__household_changes', lakebed.new_batches(ref('bronze_retail__households'))) }}
),

valid as (
    {{ lakebed.valid_rows('checked') }}
),

-- What was received first stands; a later row under the same key is an exact
-- duplicate, or contradicts it and goes to quarantine.
first_received as (
    {{ lakebed.deduplicate('valid', ['household_id', 'updated_at'], '_batch_id, _file_name, _line') }}
),

final as (
    select first_received.*
    from first_received
    {% if is_incremental() %}
    left join {{ this }} as held
        on first_received.household_id = held.household_id
            and first_received.updated_at = held.updated_at
    where held.household_id is null
    {% endif %}
)

select * from final
