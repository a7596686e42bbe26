with checked as (
    {{ lakebed.checked_rows(
        ref('bronze_retail__products'),
        'silver_retail__products',
        lakebed.new_batches(ref('bronze_retail__products'))
    ) }}
),

valid as (
    select
        valid.*,
        {{ lakebed.received_order() }} as _version
    from ({{ lakebed.valid_rows('checked') }}) as valid
),

-- A product file restates what it names: the newest statement wins (SCD 1).
final as (
    {{ lakebed.upsert_source('valid') }}
)

select * from final
