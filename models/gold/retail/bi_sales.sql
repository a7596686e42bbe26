with lines as (
    select * from {{ ref('fct_sales_lines') }}
),

dates as (
    select * from {{ ref('dim_dates') }}
),

products as (
    select * from {{ ref('dim_products') }}
),

households as (
    select * from {{ ref('dim_households') }}
),

final as (
    select
        lines.basket_id,
        lines.store_id,
        lines.household_id,
        lines.product_id,
        products.department,
        products.brand,
        products.product_category,
        households.segment as segment_at_sale,
        households.income,
        dates.day_name,
        dates.month_name,
        lines.quantity,
        lines.sales_value,
        lines.retail_disc + lines.coupon_disc + lines.coupon_match_disc as discounts,
        dates.is_weekend,
        lines.sale_date,
        dates.month_start_date
    from lines
    inner join dates on lines.date_key = dates.date_key
    inner join products on lines.product_key = products.product_key
    inner join households on lines.household_key = households.household_key
)

select * from final
