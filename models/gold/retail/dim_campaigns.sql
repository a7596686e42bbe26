with campaigns as (
    select * from {{ ref('silver_retail__campaigns') }}
),

reach as (
    select
        campaign_id,
        count(*) as households
    from {{ ref('silver_retail__campaign_households') }}
    group by campaign_id
),

final as (
    select
        {{ lakebed.surrogate_key(['campaigns.campaign_id']) }} as campaign_key,
        campaigns.campaign_id,
        coalesce(campaigns.campaign_type, 'Unknown') as campaign_type,
        coalesce(reach.households, 0) as households,
        campaigns.start_date,
        campaigns.end_date
    from campaigns
    left join reach on campaigns.campaign_id = reach.campaign_id
    union all
    select {{ lakebed.unknown_key() }}, null, 'Unknown', 0, null, null
)

select * from final
