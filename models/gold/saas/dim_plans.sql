{%- set attributes = ['name', 'monthly_price'] -%}
with changes as (
    {{ lakebed.changes_by_key(ref('silver_saas__plan_changes'), 'plan_id', attributes + ['updated_at']) }}
),

versions as (
    {{ lakebed.scd2_from_changes(
        'changes', 'plan_id', attributes, 'coalesce(updated_at, _committed_at)', '_position', '_is_deleted',
        carry=['_batch_id']
    ) }}
),

final as (
    select
        {{ lakebed.surrogate_key(['plan_id', 'valid_from']) }} as plan_key,
        plan_id,
        name,
        monthly_price,
        is_current,
        valid_from,
        valid_to,
        _batch_id
    from versions
    union all
    select
        {{ lakebed.unknown_key() }},
        null,
        'Unknown',
        cast(0 as decimal(12, 2)),
        true,
        cast('1900-01-01 00:00:00' as timestamp),
        null,
        0
)

select * from final
