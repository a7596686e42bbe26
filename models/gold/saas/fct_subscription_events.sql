with versions as (
    select
        *,
        lag(valid_to) over (partition by subscription_id order by valid_from) as valid_to_before,
        lag(plan_id) over (partition by subscription_id order by valid_from) as plan_before,
        lag(status) over (partition by subscription_id order by valid_from) as status_before,
        lag(mrr) over (partition by subscription_id order by valid_from) as mrr_before,
        lead(valid_from) over (partition by subscription_id order by valid_from) as valid_from_after
    from {{ ref('dim_subscriptions') }}
    where subscription_id is not null
),

-- Every version begins with an event; one that ends with nothing after it was deleted.
events as (
    select
        subscription_id,
        user_id,
        plan_id,
        case
            when valid_to_before is null or valid_to_before != valid_from then 'started'
            when status_before = 'active' and status = 'canceled' then 'canceled'
            when status_before = 'canceled' and status = 'active' then 'reactivated'
            when mrr > mrr_before then 'upgraded'
            when mrr < mrr_before then 'downgraded'
            when plan_id != plan_before then 'moved'
            else 'changed'
        end as event_type,
        case when valid_to_before = valid_from then mrr_before else 0 end as mrr_before,
        mrr as mrr_after,
        valid_from as occurred_at
    from versions
    union all
    select
        subscription_id,
        user_id,
        plan_id,
        'deleted' as event_type,
        mrr as mrr_before,
        0 as mrr_after,
        valid_to as occurred_at
    from versions
    where valid_to is not null and (valid_from_after is null or valid_from_after > valid_to)
),

users as (
    select * from {{ ref('dim_users') }}
),

plans as (
    select * from {{ ref('dim_plans') }}
),

final as (
    select
        coalesce(users.user_key, {{ lakebed.unknown_key() }}) as user_key,
        coalesce(plans.plan_key, {{ lakebed.unknown_key() }}) as plan_key,
        {{ lakebed.date_key('events.occurred_at') }} as date_key,
        events.subscription_id,
        events.user_id,
        events.plan_id,
        events.event_type,
        cast(events.mrr_before as decimal(12, 2)) as mrr_before,
        cast(events.mrr_after as decimal(12, 2)) as mrr_after,
        cast(events.mrr_after - events.mrr_before as decimal(12, 2)) as mrr_change,
        events.occurred_at
    from events
    left join users on {{ lakebed.scd2_join('events', 'users', 'user_id', 'occurred_at') }}
    left join plans on {{ lakebed.scd2_join('events', 'plans', 'plan_id', 'occurred_at') }}
)

select * from final
