{%- set bronze = ref('bronze_retail__products') -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__products', lakebed.new_batches(bronze)) }}
),

final as (
    {{ lakebed.quarantined_rows('checked') }}
)

select * from final
