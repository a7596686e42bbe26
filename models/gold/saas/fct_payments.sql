with payments as (
    select * from {{ ref('silver_saas__payments') }}
),

subscriptions as (
    select * from {{ ref('dim_subscriptions') }}
),

users as (
    select * from {{ ref('dim_users') }}
),

plans as (
    select * from {{ ref('dim_plans') }}
),

-- Whose it was when it was paid.
subscribed as (
    select
        payments.*,
        subscriptions.subscription_key,
        subscriptions.user_id,
        subscriptions.plan_id
    from payments
    left join subscriptions on {{ lakebed.scd2_join('payments', 'subscriptions', 'subscription_id', 'paid_at') }}
),

final as (
    select
        coalesce(subscribed.subscription_key, {{ lakebed.unknown_key() }}) as subscription_key,
        coalesce(users.user_key, {{ lakebed.unknown_key() }}) as user_key,
        coalesce(plans.plan_key, {{ lakebed.unknown_key() }}) as plan_key,
        {{ lakebed.date_key('subscribed.paid_at') }} as date_key,
        subscribed.payment_id,
        subscribed.subscription_id,
        subscribed.user_id,
        subscribed.kind,
        subscribed.amount,
        subscribed.paid_at,
        subscribed._batch_id
    from subscribed
    left join users on {{ lakebed.scd2_join('subscribed', 'users', 'user_id', 'paid_at') }}
    left join plans on {{ lakebed.scd2_join('subscribed', 'plans', 'plan_id', 'paid_at') }}
)

select * from final
