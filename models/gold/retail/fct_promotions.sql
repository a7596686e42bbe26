{%- set promotions = ref('silver_retail__promotions') -%}
{%- set product_statements = ref('silver_retail__products') -%}
-- A factless fact: that a product was displayed or advertised is all there is to it.
with promotions as (
    select * from {{ promotions }}
    {%- if is_incremental() %}
    where
        {{ lakebed.new_batches(promotions) }}
        or product_id in (
            select product_id from {{ product_statements }}
            where {{ lakebed.new_batches(product_statements) }}
        )
    {%- endif %}
),

products as (
    select * from {{ ref('dim_products') }}
),

stores as (
    select * from {{ ref('dim_stores') }}
),

final as (
    select
        coalesce(products.product_key, {{ lakebed.unknown_key() }}) as product_key,
        coalesce(stores.store_key, {{ lakebed.unknown_key() }}) as store_key,
        promotions.product_id,
        promotions.store_id,
        promotions.display_location,
        promotions.mailer_location,
        promotions.week,
        promotions.display_location != '0' as is_displayed,
        promotions.mailer_location != '0' as is_mailed
    from promotions
    left join products on promotions.product_id = products.product_id
    left join stores on promotions.store_id = stores.store_id
)

select * from final
