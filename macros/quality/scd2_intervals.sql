{#- Generic test: the versions of each key form a history. valid_from is before valid_to, no
    two versions overlap, only the last is open, and (unless allowed) there is no gap between them.
    Arguments: keys, a list of columns; valid_from and valid_to, column names, [from, to), valid_to NULL
    while valid; is_current, the column that must be true for the open version only (none: there is
    none); allow_gaps, false unless given: deleted keys that come back have one.
    Returns: the versions that break it, with `problem`. Engines: DuckDB, Spark. -#}
{% test scd2_intervals(model, keys, valid_from='valid_from', valid_to='valid_to', is_current='is_current', allow_gaps=false) %}
select *
from (
    select
        *,
        case
            when {{ valid_from }} is null then 'no valid_from'
            when {{ valid_to }} <= {{ valid_from }} then 'ends before it begins'
            when {{ valid_to }} is null and _next_from is not null then 'open, but not the last'
            when {{ valid_to }} > _next_from then 'overlap'
            {%- if not allow_gaps %}
            when {{ valid_to }} < _next_from then 'gap'
            {%- endif %}
            {%- if is_current %}
            when {{ is_current }} is distinct from ({{ valid_to }} is null) then 'wrong {{ is_current }}'
            {%- endif %}
        end as problem
    from (
        select
            *,
            lead({{ valid_from }}) over (
                partition by {{ keys if keys is string else keys | join(', ') }}
                order by {{ valid_from }}, {{ valid_to }} nulls last
            ) as _next_from
        from {{ model }}
    ) as followed
) as judged
where problem is not null
{% endtest %}
