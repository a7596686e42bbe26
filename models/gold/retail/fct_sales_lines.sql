{%- set sales = ref('silver_retail__transactions') -%}
{%- set changes = ref('silver_retail__household_changes') -%}
{%- set product_statements = ref('silver_retail__products') -%}
with
{%- if is_incremental() %}
-- What came late about a household or a product moves the keys of sales already here.
changed_households as (
    select
        household_id,
        min(updated_at) as changed_at
    from {{ changes }}
    where {{ lakebed.new_batches(changes) }}
    group by household_id
),

changed_products as (
    select product_id from {{ product_statements }}
    where {{ lakebed.new_batches(product_statements) }}
),
{%- endif %}

sales as (
    select sales.* from {{ sales }} as sales
    {%- if is_incremental() %}
    left join changed_households
        on
            sales.household_id = changed_households.household_id
            and sales.transaction_timestamp >= changed_households.changed_at
    left join changed_products on sales.product_id = changed_products.product_id
    where
        {{ lakebed.new_batches(sales, 'sales._batch_id') }}
        or changed_households.household_id is not null
        or changed_products.product_id is not null
    {%- endif %}
),

products as (
    select * from {{ ref('dim_products') }}
),

stores as (
    select * from {{ ref('dim_stores') }}
),

households as (
    select * from {{ ref('dim_households') }}
),

final as (
    select
        coalesce(households.household_key, {{ lakebed.unknown_key() }}) as household_key,
        coalesce(products.product_key, {{ lakebed.unknown_key() }}) as product_key,
        coalesce(stores.store_key, {{ lakebed.unknown_key() }}) as store_key,
        {{ lakebed.date_key('sales.transaction_timestamp') }} as date_key,
        sales.household_id,
        sales.basket_id,
        sales.product_id,
        sales.store_id,
        sales.quantity,
        sales.sales_value,
        sales.retail_disc,
        sales.coupon_disc,
        sales.coupon_match_disc,
        sales.week,
        cast(sales.transaction_timestamp as date) as sale_date,
        sales.transaction_timestamp as sold_at,
        greatest(sales._batch_id, coalesce(households._batch_id, 0), coalesce(products._batch_id, 0)) as _batch_id
    from sales
    left join households on {{ lakebed.scd2_join('sales', 'households', ['household_id'], 'transaction_timestamp') }}
    left join products on sales.product_id = products.product_id
    left join stores on sales.store_id = stores.store_id
)

select * from final
