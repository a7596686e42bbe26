with products as (
    select * from {{ ref('silver_retail__products') }}
),

final as (
    select
        {{ lakebed.surrogate_key(['product_id']) }} as product_key,
        product_id,
        manufacturer_id,
        coalesce(department, 'Unknown') as department,
        coalesce(brand, 'Unknown') as brand,
        coalesce(product_category, 'Unknown') as product_category,
        coalesce(product_type, 'Unknown') as product_type,
        coalesce(package_size, 'Unknown') as package_size,
        _batch_id
    from products
    union all
    select {{ lakebed.unknown_key() }}, null, null, 'Unknown', 'Unknown', 'Unknown', 'Unknown', 'Unknown', 0
)

select * from final
