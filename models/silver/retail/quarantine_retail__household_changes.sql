{%- set bronze = ref('bronze_retail__households') -%}
{%- set keys = ['household_id', 'updated_at'] -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__household_changes', lakebed.new_batches(bronze)) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__household_changes'), keys) }}
)

select * from final
