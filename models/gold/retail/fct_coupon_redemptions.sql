{#- Small, so it is made anew: a late change of a household then needs no thought. -#}
with redemptions as (
    select * from {{ ref('silver_retail__coupon_redemptions') }}
),

campaigns as (
    select * from {{ ref('dim_campaigns') }}
),

households as (
    select * from {{ ref('dim_households') }}
),

final as (
    select
        coalesce(households.household_key, {{ lakebed.unknown_key() }}) as household_key,
        coalesce(campaigns.campaign_key, {{ lakebed.unknown_key() }}) as campaign_key,
        {{ lakebed.date_key('redemptions.redemption_date') }} as date_key,
        redemptions.household_id,
        redemptions.coupon_upc,
        redemptions.campaign_id,
        redemptions.redemption_date
    from redemptions
    left join households on {{ lakebed.scd2_join('redemptions', 'households', ['household_id'], 'redemption_date') }}
    left join campaigns on redemptions.campaign_id = campaigns.campaign_id
)

select * from final
