with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__campaigns'), 'silver_retail__campaigns', lakebed.new_batches(ref('bronze_retail__campaigns'))) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__campaigns'), ['campaign_id']) }}
)

select * from final
