-- What the database has: of each key the newest change, if it is no delete.
with changes as (
    select * from {{ ref('silver_saas__user_changes') }}
),

newest as (
    {{ lakebed.deduplicate('changes', 'user_id', '_position desc', null_keys='group', unique_order=true) }}
),

current_rows as (
    {{ lakebed.current_rows('newest') }}
),

final as (
    select
        user_id,
        email,
        name,
        country,
        about,
        created_at,
        updated_at,
        _committed_at,
        _batch_id
    from current_rows
)

select * from final
