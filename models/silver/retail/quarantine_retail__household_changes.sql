with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__households'), 'silver_retail__household_changes', lakebed.new_batches(ref('bronze_retail__households'))) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__household_changes'), ['household_id', 'updated_at']) }}
)

select * from final
