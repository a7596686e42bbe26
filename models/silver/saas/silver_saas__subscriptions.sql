-- What the database has: of each key the newest change, if it is no delete.
with changes as (
    select * from {{ ref('silver_saas__subscription_changes') }}
),

newest as (
    {{ lakebed.deduplicate('changes', 'subscription_id', '_position desc', null_keys='group', unique_order=true) }}
),

current_rows as (
    {{ lakebed.current_rows('newest') }}
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
        _committed_at,
        _batch_id
    from current_rows
)

select * from final
