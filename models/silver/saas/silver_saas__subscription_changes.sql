{%- set bronze = source('saas', 'saas__subscriptions') -%}
with changes as (
    {{ lakebed.debezium_changes(bronze, 'silver_saas__subscription_changes', lakebed.new_batches(bronze)) }}
),

valid as (
    {{ lakebed.valid_rows('changes') }}
),

-- An event that is delivered twice is one.
first_received as (
    {{ lakebed.deduplicate('valid', ['_event_id', 'subscription_id'], '_batch_id', null_keys='group') }}
),

not_held as (
    {{ lakebed.rows_not_held('first_received', ['_event_id', 'subscription_id']) }}
),

final as (
    select
        subscription_id,
        user_id,
        plan_id,
        status,
        monthly_amount,
        started_at,
        canceled_at,
        updated_at,
        _op,
        _position,
        _event_id,
        _is_deleted,
        _committed_at,
        _source,
        _batch_id,
        ingested_at
    from not_held
)

select * from final
