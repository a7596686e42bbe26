{%- set bronze = source('saas', 'saas__outbox') -%}
with changes as (
    {{ lakebed.debezium_changes(bronze, 'silver_saas__events', lakebed.new_batches(bronze)) }}
),

valid as (
    {{ lakebed.valid_rows('changes') }}
),

-- An outbox is only written to: what is deleted from it was read long ago.
first_received as (
    {{ lakebed.deduplicate('valid', 'id', '_position', where="_op in ('c', 'r')", null_keys='group') }}
),

not_held as (
    {{ lakebed.rows_not_held('first_received', ['id']) }}
),

final as (
    select
        id,
        aggregatetype,
        aggregateid,
        {{ lakebed.parse_value("case when aggregatetype = 'customer' then aggregateid end", 'bigint') }} as user_id,
        type,
        payload,
        occurred_at,
        _position,
        _committed_at,
        _source,
        _batch_id,
        ingested_at
    from not_held
)

select * from final
