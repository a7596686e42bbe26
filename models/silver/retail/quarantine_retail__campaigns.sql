{%- set bronze = ref('bronze_retail__campaigns') -%}
{%- set keys = ['campaign_id'] -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__campaigns', lakebed.new_batches(bronze)) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__campaigns'), keys) }}
)

select * from final
