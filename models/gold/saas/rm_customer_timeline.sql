{%- set events = ref('silver_saas__events') -%}
-- Read models are projections of the application's events, and of nothing else. A customer with a new event is
-- projected anew from all of his.
with events as (
    select * from {{ events }}
    where
        user_id is not null
    {%- if is_incremental() %}
        and user_id in (select user_id from {{ events }} where {{ lakebed.new_batches(events) }})
    {%- endif %}
),

typed as (
    select
        id as event_id,
        user_id as customer_id,
        type as event_type,
        {{ lakebed.parse_value(lakebed.json_text('payload', 'subscription_id'), 'bigint') }} as subscription_id,
        {{ lakebed.json_text('payload', 'plan_id') }} as plan_id,
        {{ lakebed.parse_value(lakebed.json_text('payload', 'monthly_amount'), 'decimal(12,2)') }} as monthly_amount,
        {{ lakebed.parse_value(lakebed.json_text('payload', 'amount'), 'decimal(12,2)') }} as amount,
        occurred_at,
        _position,
        _batch_id
    from events
),

final as (
    select
        event_id,
        customer_id,
        cast(row_number() over (partition by customer_id order by _position, event_id) as bigint) as event_number,
        event_type,
        subscription_id,
        plan_id,
        monthly_amount,
        amount,
        cast(
            sum(coalesce(amount, 0)) over (
                partition by customer_id
                order by _position, event_id
                rows between unbounded preceding and current row
            ) as decimal(18, 2)
        ) as paid_so_far,
        occurred_at,
        _position,
        _batch_id
    from typed
)

select * from final
