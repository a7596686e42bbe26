{{ config(meta={'patterns': ['pat-completeness-check']}) }}
-- Every level of sales adds up to what silver holds, to the cent.
with totals as (
    select
        'silver' as level,
        sum(sales_value) as sales_value
    from {{ ref('silver_retail__transactions') }}
    union all
    select
        'lines' as level,
        sum(sales_value) as sales_value
    from {{ ref('fct_sales_lines') }}
    union all
    select
        'baskets' as level,
        sum(sales_value) as sales_value
    from {{ ref('fct_baskets') }}
    union all
    select
        'days' as level,
        sum(sales_value) as sales_value
    from {{ ref('agg_daily_sales') }}
    union all
    select
        'months' as level,
        sum(sales_value) as sales_value
    from {{ ref('agg_monthly_sales') }}
    union all
    select
        'households' as level,
        sum(sales_value) as sales_value
    from (
        select sales_value from {{ ref('rm_household_summary') }}
        union all
        -- The sales of those who were erased: no summary names them.
        select sales_value from {{ ref('fct_baskets') }}
        where household_id = 0
    ) as households
),

final as (
    select * from totals
    where sales_value != (select max(every_level.sales_value) from totals as every_level)
)

select * from final
