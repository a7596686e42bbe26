{#- Generic test: versions of a key are [valid_from, valid_to) intervals with no overlap, at most one
    open version and no gap (unless allow_gaps).
    Arguments: keys, a list of names; valid_from, valid_to: column names; allow_gaps: boolean. -#}
{% test scd2_intervals(model, keys, valid_from='valid_from', valid_to='valid_to', allow_gaps=false) %}
    with ordered as (
        select
            {{ keys | join(', ') }},
            {{ valid_from }} as version_from,
            {{ valid_to }} as version_to,
            lead({{ valid_from }}) over (partition by {{ keys | join(', ') }} order by {{ valid_from }}, {{ valid_to }} nulls last) as next_from
        from {{ model }}
    )

    select *
    from ordered
    where
        version_from is null
        or version_to <= version_from
        or (next_from is not null and (version_to is null or version_to > next_from))
        {%- if not allow_gaps %}
        or (next_from is not null and version_to < next_from)
        {%- endif %}
{% endtest %}
