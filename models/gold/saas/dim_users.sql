{%- set attributes = ['email', 'name', 'country', 'created_at'] -%}
with changes as (
    {{ lakebed.changes_by_key(ref('silver_saas__user_changes'), 'user_id', attributes + ['updated_at']) }}
),

versions as (
    {{ lakebed.scd2_from_changes(
        'changes', 'user_id', attributes, 'coalesce(updated_at, _committed_at)', '_position', '_is_deleted',
        carry=['_batch_id']
    ) }}
),

final as (
    select
        {{ lakebed.surrogate_key(['user_id', 'valid_from']) }} as user_key,
        user_id,
        email,
        name,
        coalesce(country, 'Unknown') as country,
        is_current,
        created_at,
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
        'Unknown',
        true,
        null,
        cast('1900-01-01 00:00:00' as timestamp),
        null,
        0
)

select * from final
