{%- set bronze = source('web', 'web__clicks') -%}
with checked as (
    {{ lakebed.checked_records(bronze, 'silver_web__clicks', lakebed.new_batches(bronze)) }}
),

refused as (
    {{ lakebed.quarantined_rows('checked', ref('silver_web__clicks'), ['event_id', 'event_time']) }}
),

final as (
    select
        event_id,
        household_id,
        broken_rules,
        _record as event,
        event_time,
        _topic,
        _topic_partition,
        _offset,
        _batch_id,
        ingested_at
    from refused
)

select * from final
