with checked as (
    {{ lakebed.checked_rows(ref('bronze_retail__products'), 'silver_retail__products', lakebed.new_batches(ref('bronze_retail__products'))) }}
),

-- A product file restates what it names: the newest statement wins (upsert, SCD 1).
final as (
    select
        valid.*,
        {{ lakebed.received_order() }} as _version
    from ({{ lakebed.valid_rows('checked') }}) as valid
)

select * from final
