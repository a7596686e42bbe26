{%- set users = [['after', 'user_id'], ['before', 'user_id'], ['after', 'aggregateid'], ['before', 'aggregateid']] -%}
{%- set entities = {
    'users': 'user_changes',
    'plans': 'plan_changes',
    'subscriptions': 'subscription_changes',
    'payments': 'payment_changes',
    'outbox': 'events',
} -%}
with final as (
    {%- for entity, silver in entities.items() %}
    {%- set bronze = source('saas', 'saas__' ~ entity) %}
    select
        '{{ entity }}' as entity,
        broken_rules,
        coalesce(
            {%- for path in users %}
            {{ lakebed.parse_value(lakebed.json_text('_record', path), 'bigint') }}{{ ',' if not loop.last }}
            {%- endfor %}
        ) as user_id,
        _record as event,
        _position,
        _committed_at,
        _source,
        _batch_id,
        ingested_at
    from ({{ lakebed.debezium_changes(bronze, 'silver_saas__' ~ silver, lakebed.new_batches(bronze)) }}) as {{ entity }}
    where broken_rules is not null
    {{ 'union all' if not loop.last }}
    {%- endfor %}
)

select * from final
