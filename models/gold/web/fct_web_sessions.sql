{%- set clicks = ref('silver_web__clicks') -%}
-- A session with a new event is made anew from all of its events, whatever order they come in.
with clicks as (
    select * from {{ clicks }}
    {%- if is_incremental() %}
    where session_id in (select session_id from {{ clicks }} where {{ lakebed.new_batches(clicks) }})
    {%- endif %}
),

final as (
    select
        session_id,
        {{ lakebed.date_key('min(event_time)') }} as date_key,
        max(household_id) as household_id,
        count(*) as events,
        cast(sum(case when event_type = 'page_viewed' then 1 else 0 end) as bigint) as page_views,
        cast(sum(case when event_type = 'added_to_cart' then 1 else 0 end) as bigint) as cart_adds,
        cast(sum(case when event_type = 'purchased' then 1 else 0 end) as bigint) as purchases,
        cast(sum(case when event_type = 'purchased' then amount else 0 end) as decimal(18, 2)) as revenue,
        min(event_time) as first_event_at,
        max(event_time) as last_event_at
    from clicks
    group by session_id
)

select * from final
