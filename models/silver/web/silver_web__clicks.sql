{%- set bronze = source('web', 'web__clicks') -%}
{%- set keys = ['event_id', 'event_time'] -%}
with checked as (
    {{ lakebed.checked_records(bronze, 'silver_web__clicks', lakebed.new_batches(bronze)) }}
),

valid as (
    {{ lakebed.valid_rows('checked') }}
),

seen as (
    {{ lakebed.with_seen_until('valid') }}
),

-- An event that was sent twice has its time both times. So its twin is looked for among rows of these times only.
first_received as (
    {{ lakebed.deduplicate(
        'seen', keys, '_batch_id, _topic, _topic_partition, _offset', null_keys='group', unique_order=true
    ) }}
),

not_held as (
    {{ lakebed.rows_not_held('first_received', keys, event_time='event_time') }}
),

final as (
    select
        event_id,
        session_id,
        household_id,
        basket_id,
        product_id,
        event_type,
        page_type,
        amount,
        event_time,
        _seen_until,
        _topic,
        _topic_partition,
        _offset,
        _batch_id,
        _row_hash,
        ingested_at
    from not_held
)

select * from final
