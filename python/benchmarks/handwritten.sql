-- What build.py compares dbt with: the same gold tables, straight from the files of the landing
-- folder. No bronze, no quarantine, nothing incremental; a bad row stops it.
create schema gold;

create temp table sales as
select
    household_id,
    store_id,
    basket_id,
    product_id,
    cast(cast(quantity as double) as bigint) as quantity,
    cast(cast(sales_value as double) as decimal(18, 2)) as sales_value,
    cast(cast(retail_disc as double) as decimal(18, 2)) as retail_disc,
    cast(cast(coupon_disc as double) as decimal(18, 2)) as coupon_disc,
    cast(cast(coupon_match_disc as double) as decimal(18, 2)) as coupon_match_disc,
    cast(week as integer) as week,
    cast(transaction_timestamp as timestamp) as sold_at
from read_csv('{landing}/retail/transactions/*.csv.gz', all_varchar = true, header = true)
qualify row_number() over (partition by basket_id, product_id order by filename) = 1;

create temp table promoted_stores as
select distinct store_id
from read_csv('{landing}/retail/promotions/*.csv.gz', all_varchar = true, header = true);

create table gold.dim_products as
select
    md5(product_id) as product_key,
    product_id,
    manufacturer_id,
    coalesce(department, 'Unknown') as department,
    coalesce(brand, 'Unknown') as brand,
    coalesce(product_category, 'Unknown') as product_category,
    coalesce(product_type, 'Unknown') as product_type,
    coalesce(package_size, 'Unknown') as package_size
from read_csv('{landing}/retail/products/*.csv.gz', all_varchar = true, header = true)
qualify row_number() over (partition by product_id order by filename desc) = 1
union all
select '-1', null, null, 'Unknown', 'Unknown', 'Unknown', 'Unknown', 'Unknown';

create table gold.dim_stores as
select
    md5(store_id) as store_key,
    store_id,
    min(sale_date) as first_sale_date
from (
    select store_id, cast(sold_at as date) as sale_date from sales
    union all
    select store_id, null from promoted_stores
) as seen
group by store_id
union all
select '-1', null, null;

create table gold.dim_households as
with changes as (
    select
        *,
        cast(updated_at as timestamp) as valid_from,
        md5(concat_ws(
            '|',
            coalesce(age, '?'), coalesce(income, '?'), coalesce(home_ownership, '?'),
            coalesce(marital_status, '?'), coalesce(household_size, '?'),
            coalesce(household_comp, '?'), coalesce(kids_count, '?'), coalesce(segment, '?')
        )) as state
    from read_csv('{landing}/retail/households/*.csv.gz', all_varchar = true, header = true)
),

versions as (
    select * from (
        select
            *,
            lag(state) over (partition by household_id order by valid_from) as state_before
        from changes
    ) as states
    where state_before is null or state_before != state
),

intervals as (
    select
        *,
        lead(valid_from) over (partition by household_id order by valid_from) as valid_to
    from versions
)

select
    md5(household_id || '|' || valid_from) as household_key,
    household_id,
    coalesce(age, 'Unknown') as age,
    coalesce(income, 'Unknown') as income,
    coalesce(home_ownership, 'Unknown') as home_ownership,
    coalesce(marital_status, 'Unknown') as marital_status,
    coalesce(household_size, 'Unknown') as household_size,
    coalesce(household_comp, 'Unknown') as household_comp,
    coalesce(kids_count, 'Unknown') as kids_count,
    coalesce(segment, 'Unknown') as segment,
    valid_to is null as is_current,
    valid_from,
    valid_to
from intervals
union all
select
    '-1', null, 'Unknown', 'Unknown', 'Unknown', 'Unknown', 'Unknown', 'Unknown', 'Unknown', 'Unknown',
    true, timestamp '1900-01-01', null;

create table gold.fct_sales_lines as
select
    coalesce(households.household_key, '-1') as household_key,
    coalesce(products.product_key, '-1') as product_key,
    coalesce(stores.store_key, '-1') as store_key,
    cast(strftime(sales.sold_at, '%Y%m%d') as integer) as date_key,
    sales.* exclude (sold_at),
    cast(sales.sold_at as date) as sale_date,
    sales.sold_at
from sales
left join gold.dim_households as households
    on
        sales.household_id = households.household_id
        and sales.sold_at >= households.valid_from
        and sales.sold_at < coalesce(households.valid_to, timestamp 'infinity')
left join gold.dim_products as products on sales.product_id = products.product_id
left join gold.dim_stores as stores on sales.store_id = stores.store_id;

create table gold.fct_baskets as
select
    household_key,
    store_key,
    date_key,
    household_id,
    basket_id,
    store_id,
    count(*) as lines,
    cast(sum(quantity) as bigint) as quantity,
    cast(sum(sales_value) as decimal(18, 2)) as sales_value,
    cast(sum(retail_disc) as decimal(18, 2)) as retail_disc,
    cast(sum(coupon_disc) as decimal(18, 2)) as coupon_disc,
    cast(sum(coupon_match_disc) as decimal(18, 2)) as coupon_match_disc,
    sum(coupon_disc) > 0 as has_coupon,
    sale_date,
    sold_at
from gold.fct_sales_lines
group by all;

create table gold.agg_daily_sales as
select
    store_key,
    date_key,
    store_id,
    count(*) as lines,
    count(distinct basket_id) as baskets,
    cast(sum(quantity) as bigint) as quantity,
    cast(sum(sales_value) as decimal(18, 2)) as sales_value,
    cast(sum(retail_disc + coupon_disc + coupon_match_disc) as decimal(18, 2)) as discounts,
    sale_date
from gold.fct_sales_lines
group by all;

create table gold.agg_monthly_sales as
select
    store_key,
    store_id,
    cast(sum(lines) as bigint) as lines,
    cast(sum(baskets) as bigint) as baskets,
    cast(sum(quantity) as bigint) as quantity,
    cast(sum(sales_value) as decimal(18, 2)) as sales_value,
    cast(sum(discounts) as decimal(18, 2)) as discounts,
    cast(date_trunc('month', sale_date) as date) as month_start_date
from gold.agg_daily_sales
group by all;

create table gold.rm_household_summary as
select
    household_id,
    count(*) as baskets,
    cast(sum(lines) as bigint) as lines,
    count(distinct store_id) as stores,
    cast(sum(sales_value) as decimal(18, 2)) as sales_value,
    cast(sum(retail_disc + coupon_disc + coupon_match_disc) as decimal(18, 2)) as discounts,
    count(*) filter (where has_coupon) as baskets_with_coupon,
    min(sold_at) as first_sold_at,
    max(sold_at) as last_sold_at
from gold.fct_baskets
group by household_id;
