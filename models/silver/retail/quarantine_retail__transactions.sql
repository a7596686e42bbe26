{%- set bronze = ref('bronze_retail__transactions') -%}
{%- set keys = ['basket_id', 'product_id'] -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__transactions', lakebed.new_batches(bronze)) }}
),

final as (
    {{ lakebed.quarantined_rows('checked', ref('silver_retail__transactions'), keys) }}
)

select * from final
