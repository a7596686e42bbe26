with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__promotions'), 'silver_retail__promotions', lakebed.new_batches(ref('bronze_retail__promotions'))) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__promotions'), ['product_id', 'store_id', 'week', 'display_location', 'mailer_location']) }}
)

select * from final
