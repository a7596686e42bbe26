{%- set bronze = ref('bronze_retail__promotions') -%}
{%- set keys = ['product_id', 'store_id', 'week', 'display_location', 'mailer_location'] -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__promotions', lakebed.new_batches(bronze)) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__promotions'), keys) }}
)

select * from final
