{%- set bronze = ref('bronze_retail__products') -%}
with checked as (
    {{ lakebed.checked_rows(bronze, 'silver_retail__products', lakebed.new_batches(bronze)) }}
),

-- A product file restates what it names: the newest statement wins (SCD 1).
numbered as (
    select
        valid_rows.*,
        {{ lakebed.received_order() }} as _version
    from ({{ lakebed.valid_rows('checked') }}) as valid_rows
),

final as (
    {{ lakebed.upsert_source('numbered') }}
)

select * from final
