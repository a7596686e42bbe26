with versions as (
    {{ lakebed.scd2_from_changes(
        ref('order_changes'), ['customer'], ['city'], 'changed_at', surrogate_key='customer_key'
    ) }}
),

final as (
    {{ lakebed.scd6('versions', ['customer'], ['city']) }}
)

select * from final
