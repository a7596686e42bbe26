{%- set timeline = ref('rm_customer_timeline') -%}
with timeline as (
    select * from {{ timeline }}
    {%- if is_incremental() %}
    where customer_id in (select customer_id from {{ timeline }} where {{ lakebed.new_batches(timeline) }})
    {%- endif %}
),

-- What the last word on each subscription says.
subscriptions as (
    {{ lakebed.deduplicate(
        'timeline', ['customer_id', 'subscription_id'], 'event_number desc',
        where='subscription_id is not null', unique_order=true
    ) }}
),

held as (
    select
        customer_id,
        sum(case when event_type != 'canceled' then 1 else 0 end) as active_subscriptions,
        sum(case when event_type != 'canceled' then monthly_amount else 0 end) as mrr
    from subscriptions
    group by customer_id
),

customers as (
    select
        customer_id,
        count(*) as events,
        sum(case when event_type = 'paid' then amount else 0 end) as paid,
        sum(case when event_type = 'refunded' then -amount else 0 end) as refunded,
        min(case when event_type = 'signed_up' then occurred_at end) as signed_up_at,
        max(case when event_type = 'deleted' then occurred_at end) as deleted_at,
        max(occurred_at) as last_event_at
    from timeline
    group by customer_id
),

final as (
    select
        customers.customer_id,
        customers.events,
        cast(case when customers.deleted_at is null then coalesce(held.active_subscriptions, 0) else 0 end as bigint)
            as active_subscriptions,
        cast(case when customers.deleted_at is null then coalesce(held.mrr, 0) else 0 end as decimal(18, 2)) as mrr,
        cast(customers.paid as decimal(18, 2)) as paid,
        cast(customers.refunded as decimal(18, 2)) as refunded,
        customers.signed_up_at,
        customers.deleted_at,
        customers.last_event_at
    from customers
    left join held on customers.customer_id = held.customer_id
)

select * from final
