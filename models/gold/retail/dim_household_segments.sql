with households as (
    select
        household_key,
        household_id,
        segment,
        is_current,
        valid_from,
        valid_to
    from {{ ref('dim_households') }}
    where household_id is not null
),

final as (
    {{ lakebed.scd6('households', ['household_id'], ['segment']) }}
)

select * from final
