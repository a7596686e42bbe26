with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__campaign_households'), 'silver_retail__campaign_households', lakebed.new_batches(ref('bronze_retail__campaign_households'))) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__campaign_households'), ['campaign_id', 'household_id']) }}
)

select * from final
