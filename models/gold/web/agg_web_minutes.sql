{%- set clicks = ref('silver_web__clicks') -%}
-- A minute that a new event falls into is counted anew from all of its events, and replaces what was there.
with clicks as (
    select * from {{ clicks }}
    where
        {{ lakebed.taken_rows() }}
        and {{ lakebed.touched_windows(clicks, 'event_time', 'minute') }}
),

final as (
    select
        {{ lakebed.start_of_datepart('minute', 'event_time') }} as minute_start_at,
        page_type,
        count(*) as events,
        cast(sum(case when event_type = 'session_started' then 1 else 0 end) as bigint) as sessions,
        cast(sum(case when event_type = 'purchased' then 1 else 0 end) as bigint) as purchases,
        cast(sum(case when event_type = 'purchased' then amount else 0 end) as decimal(18, 2)) as revenue
    from clicks
    group by {{ lakebed.start_of_datepart('minute', 'event_time') }}, page_type
)

select * from final
