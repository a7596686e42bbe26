with changes as (
    select {{ lakebed.star_except(['batch']) }} from {{ ref('order_changes') }}
    where batch = {{ var('batch') }} and order_id is not null
),

final as (
    {{ lakebed.upsert_source('changes') }}
)

select * from final
