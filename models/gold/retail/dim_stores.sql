with sales as (
    select * from {{ ref('silver_retail__transactions') }}
),

promotions as (
    select * from {{ ref('silver_retail__promotions') }}
),

seen as (
    select
        store_id,
        min(cast(transaction_timestamp as date)) as first_sale_date
    from sales
    group by store_id
    union all
    select distinct
        store_id,
        cast(null as date) as first_sale_date
    from promotions
),

final as (
    select
        {{ lakebed.surrogate_key(['store_id']) }} as store_key,
        store_id,
        min(first_sale_date) as first_sale_date
    from seen
    group by store_id
    union all
    select {{ lakebed.unknown_key() }}, null, null
)

select * from final
