{%- set attributes = ['user_id', 'plan_id', 'status', 'monthly_amount', 'started_at', 'canceled_at'] -%}
with changes as (
    {{ lakebed.changes_by_key(
        ref('silver_saas__subscription_changes'), 'subscription_id', attributes + ['updated_at']
    ) }}
),

versions as (
    {{ lakebed.scd2_from_changes(
        'changes', 'subscription_id', attributes, 'coalesce(updated_at, _committed_at)', '_position', '_is_deleted',
        carry=['_batch_id']
    ) }}
),

final as (
    select
        {{ lakebed.surrogate_key(['subscription_id', 'valid_from']) }} as subscription_key,
        subscription_id,
        user_id,
        plan_id,
        status,
        monthly_amount,
        cast(case when status = 'active' then monthly_amount else 0 end as decimal(12, 2)) as mrr,
        is_current,
        started_at,
        canceled_at,
        valid_from,
        valid_to,
        _batch_id
    from versions
    union all
    select
        {{ lakebed.unknown_key() }},
        null,
        null,
        null,
        'unknown',
        cast(0 as decimal(12, 2)),
        cast(0 as decimal(12, 2)),
        true,
        null,
        null,
        cast('1900-01-01 00:00:00' as timestamp),
        null,
        0
)

select * from final
