{%- set entities = {
    'transactions': 'transactions',
    'products': 'products',
    'households': 'household_changes',
    'campaigns': 'campaigns',
    'campaign_households': 'campaign_households',
    'coupons': 'coupons',
    'coupon_redemptions': 'coupon_redemptions',
    'promotions': 'promotions',
} -%}
with counts as (
    {%- for bronze, silver in entities.items() %}
    select
        '{{ bronze }}' as entity,
        (select count(*) from {{ ref('bronze_retail__' ~ bronze) }}) as bronze_rows,
        (select count(*) from {{ ref('silver_retail__' ~ silver) }}) as silver_rows,
        (select count(*) from {{ ref('quarantine_retail__' ~ silver) }}) as quarantine_rows
    {{ 'union all' if not loop.last }}
    {%- endfor %}
),

final as (
    select
        entity,
        bronze_rows,
        silver_rows,
        quarantine_rows,
        bronze_rows - silver_rows - quarantine_rows as duplicate_rows
    from counts
)

select * from final
