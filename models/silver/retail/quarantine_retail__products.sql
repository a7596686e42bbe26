with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__products'), 'silver_retail__products', lakebed.new_batches(ref('bronze_retail__products'))) }}
),

final as (
    {{ lakebed.quarantined_rows('checked') }}
)

select * from final
