with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__transactions'), 'silver_retail__transactions', lakebed.new_batches(ref('bronze_retail__transactions'))) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__transactions'), ['basket_id', 'product_id']) }}
)

select * from final
