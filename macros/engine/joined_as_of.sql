{#- What join_as_of is made of: see there. `names` are the names that `columns` have.
    Engines: DuckDB, Spark. -#}
{% macro joined_as_of(left, right, keys, left_time, right_time, columns, names, right_until, how, strict) %}
    {{- return(adapter.dispatch('joined_as_of', 'lakebed')(left, right, keys, left_time, right_time, columns, names, right_until, how, strict)) -}}
{% endmacro %}

{#- In an ASOF join of DuckDB 1.5 a NULL key equals a NULL, and a NULL is the latest time. -#}
{% macro duckdb__joined_as_of(left, right, keys, left_time, right_time, columns, names, right_until, how, strict) -%}
{%- set holds = '(_right._until is null or _left.' ~ left_time ~ ' < _right._until)' -%}
select
    _left.*
    {%- for name in names %},
    {% if right_until and how == 'left' -%}
    case when {{ holds }} then _right.{{ name }} end as {{ name }}
    {%- else -%}
    _right.{{ name }}
    {%- endif %}
    {%- endfor %}
from {{ left }} as _left
asof {{ how }} join (
    select
        {%- for key in keys %}
        {{ key }} as _key_{{ loop.index }},
        {%- endfor %}
        {{ right_time }} as _since,
        true as _has_time,
        {%- if right_until %}
        {{ right_until }} as _until,
        {%- endif %}
        {{ columns | join(',\n        ') }}
    from {{ right }}
    where
        {{ right_time }} is not null
        {%- for key in keys %}
        and {{ key }} is not null
        {%- endfor %}
) as _right
    on
        {%- for key in keys %}
        _left.{{ key }} = _right._key_{{ loop.index }} and
        {%- endfor %}
        (_left.{{ left_time }} is not null) = _right._has_time and
        _left.{{ left_time }} {{ '>' if strict else '>=' }} _right._since
{%- if right_until and how == 'inner' %}
where {{ holds }}
{%- endif %}
{%- endmacro %}

{#- A join on a range would compare each row with all of its key's. Both sides in one order instead:
    the last row of the right that came by is the answer. -#}
{% macro spark__joined_as_of(left, right, keys, left_time, right_time, columns, names, right_until, how, strict) -%}
{%- set matched = '_right is not null' ~ (' and (_right._until is null or _at < _right._until)' if right_until) -%}
select
    _left.*
    {%- for name in names %},
    {% if right_until -%}
    case when {{ matched }} then _right.{{ name }} end as {{ name }}
    {%- else -%}
    _right.{{ name }}
    {%- endif %}
    {%- endfor %}
from (
    select
        _at,
        _asks,
        _left,
        last(_right, true) over (
            partition by {% for key in keys %}_key_{{ loop.index }}{{ ', ' if not loop.last }}{% endfor %}
            order by _at, _asks {{ 'desc' if strict }}
            rows between unbounded preceding and current row
        ) as _right
    from (
        select
            {%- for key in keys %}
            {{ key }} as _key_{{ loop.index }},
            {%- endfor %}
            {{ left_time }} as _at,
            true as _asks,
            struct(*) as _left,
            null as _right
        from {{ left }}
        union all
        select
            {%- for key in keys %}
            {{ key }} as _key_{{ loop.index }},
            {%- endfor %}
            {{ right_time }} as _at,
            false as _asks,
            null as _left,
            struct(
                {% if right_until %}{{ right_until }} as _until, {% endif %}{{ columns | join(', ') }}
            ) as _right
        from {{ right }}
        where
            {{ right_time }} is not null
            {%- for key in keys %}
            and {{ key }} is not null
            {%- endfor %}
    ) as both_sides
) as joined
where _asks{{ ' and ' ~ matched if how == 'inner' }}
{%- endmacro %}
