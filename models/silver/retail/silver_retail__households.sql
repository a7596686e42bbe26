-- What we know of each household now (SCD 1): the newest change wins, whenever it arrives.
with changes as (
    select * from {{ ref('silver_retail__household_changes') }}
    where {{ lakebed.new_batches(ref('silver_retail__household_changes')) }}
),

final as (
    {{ lakebed.upsert_source('changes') }}
)

select * from final
