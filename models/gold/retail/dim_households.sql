{%- set attributes = [
    'age', 'income', 'home_ownership', 'marital_status', 'household_size', 'household_comp', 'kids_count', 'segment',
] -%}
with changes as (
    select * from {{ ref('silver_retail__household_changes') }}
),

versions as (
    {{ lakebed.scd2_from_changes(
        'changes', ['household_id'], attributes, 'updated_at', '_batch_id', carry=['_batch_id']
    ) }}
),

final as (
    select
        {{ lakebed.surrogate_key(['household_id', 'valid_from']) }} as household_key,
        household_id,
        {%- for attribute in attributes %}
        coalesce({{ attribute }}, 'Unknown') as {{ attribute }},
        {%- endfor %}
        is_current,
        valid_from,
        valid_to,
        _batch_id
    from versions
    union all
    select
        {{ lakebed.unknown_key() }},
        null,
        {%- for attribute in attributes %}
        'Unknown',
        {%- endfor %}
        true,
        cast('1900-01-01 00:00:00' as timestamp),
        null,
        0
)

select * from final
