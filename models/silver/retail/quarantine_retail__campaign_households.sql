{%- set bronze = ref('bronze_retail__campaign_households') -%}
{%- set keys = ['campaign_id', 'household_id'] -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__campaign_households', lakebed.new_batches(bronze)) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__campaign_households'), keys) }}
)

select * from final
