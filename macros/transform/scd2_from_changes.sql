{#- Slowly changing dimension, type 2, from a log of changes: one row for each version of a key,
    valid in [valid_from, valid_to). The log may be late, out of order and repeated: the versions
    depend on what it says, not on when it came.
    Arguments:
      relation       a relation, or the name of a CTE; one row a change, with the whole state;
      keys           a list of columns: the business key (a string is one); NULL is a key too;
      columns        a list: the columns that make a version. Equal neighbours become one;
      changed_at     the column with the time of the change. Rows without it are left out: a change
                     without a time has no place in a history; let a rule of silver refuse them;
      order_by       a list of columns: of several changes of a key at one instant the last by
                     these holds (NULLs first). Then a delete, then the larger row hash;
      deleted        a boolean column, true where the change deletes the key; it closes the
                     interval. A key that comes back later has a gap;
      surrogate_key  name of the version's key, 'version_key' unless given: the hash of business key
                     and valid_from, so that rebuilding gives the same keys;
      carry          a list of other columns, taken along from the change that began the version.
    Returns: a select of the surrogate key, keys, columns, carry, valid_from, valid_to (NULL: still valid)
    and is_current. Engines: DuckDB, Spark.
    Example: {{ lakebed.scd2_from_changes(ref('changes'), ['id'], ['name', 'city'], 'updated_at') }} -#}
{% macro scd2_from_changes(relation, keys, columns, changed_at, order_by=none, deleted=none, surrogate_key='version_key', carry=[]) %}
{%- set keys = [keys] if keys is string else keys -%}
{%- set orders = [order_by] if order_by is string else (order_by or []) | list -%}
{%- set key_list = keys | join(', ') -%}
{%- set is_deleted = 'coalesce(' ~ deleted ~ ', false)' if deleted else 'false' -%}
select
    {{ lakebed.surrogate_key(keys + ['valid_from']) }} as {{ surrogate_key }},
    {%- for column in keys + columns + carry %}
    {{ column }},
    {%- endfor %}
    valid_from,
    valid_to,
    valid_to is null as is_current
from (
    select
        *,
        lead(valid_from) over (partition by {{ key_list }} order by valid_from) as valid_to
    from (
        select
            *,
            lag(_state) over (partition by {{ key_list }} order by valid_from) as _state_before
        from (
            select
                *,
                row_number() over (
                    partition by {{ key_list }}, valid_from
                    order by
                        {%- for order in orders %}
                        _order_{{ loop.index }} desc nulls last,
                        {%- endfor %}
                        _is_deleted desc,
                        _state desc
                        {%- for column in carry %},
                        {{ column }} nulls last
                        {%- endfor %}
                ) as _rank
            from (
                select
                    {%- for column in keys + columns + carry %}
                    {{ column }},
                    {%- endfor %}
                    {%- for order in orders %}
                    {{ order }} as _order_{{ loop.index }},
                    {%- endfor %}
                    {{ changed_at }} as valid_from,
                    {{ is_deleted }} as _is_deleted,
                    case when {{ is_deleted }} then 'deleted' else {{ lakebed.surrogate_key(columns) }} end as _state
                from {{ relation }}
                where {{ changed_at }} is not null
            ) as changes
        ) as ranked
        where _rank = 1
    ) as states
    where _state_before is null or _state_before != _state
) as versions
where not _is_deleted
{% endmacro %}
