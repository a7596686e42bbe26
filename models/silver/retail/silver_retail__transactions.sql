with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__transactions'), 'silver_retail__transactions', lakebed.new_batches(ref('bronze_retail__transactions'))) }}
),

valid as (
    {{ lakebed.valid_rows('checked') }}
),

-- What was received first stands; a later row under the same key is an exact
-- duplicate, or contradicts it and goes to quarantine.
first_received as (
    {{ lakebed.deduplicate('valid', ['basket_id', 'product_id'], '_batch_id, _file_name, _line') }}
),

final as (
    select first_received.*
    from first_received
    {% if is_incremental() %}
    left join {{ this }} as held
        on first_received.basket_id = held.basket_id
            and first_received.product_id = held.product_id
    where held.basket_id is null
    {% endif %}
)

select * from final
