with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__promotions'), 'silver_retail__promotions', lakebed.new_batches(ref('bronze_retail__promotions'))) }}
),

valid as (
    {{ lakebed.valid_rows('checked') }}
),

-- What was received first stands; a later row under the same key is an exact
-- duplicate, or contradicts it and goes to quarantine.
first_received as (
    {{ lakebed.deduplicate('valid', ['product_id', 'store_id', 'week', 'display_location', 'mailer_location'], '_batch_id, _file_name, _line') }}
),

final as (
    select first_received.*
    from first_received
    {% if is_incremental() %}
    left join {{ this }} as held
        on first_received.product_id = held.product_id
            and first_received.store_id = held.store_id
            and first_received.week = held.week
            and first_received.display_location = held.display_location
            and first_received.mailer_location = held.mailer_location
    where held.product_id is null
    {% endif %}
)

select * from final
