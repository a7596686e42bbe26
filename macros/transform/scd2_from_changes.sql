{#- Versions of each key from a change log (SCD 2). Late and out-of-order changes fall into
    place, states that do not differ are one version, and of several changes at one instant the
    last by order_by holds.
    Arguments: relation (or CTE); keys, columns: lists of names; changed_at: when a state begins;
    order_by: breaks ties; deleted: optional boolean column that ends the history; carry: other
    columns to take along from the change that began the version.
    Returns: a select of keys, columns, carry, valid_from, valid_to (exclusive; NULL for the
    version that is still open), is_current. Engines: DuckDB, Spark.
    Example: {{ lakebed.scd2_from_changes('changes', ['id'], ['segment'], 'updated_at', '_line') }} -#}
{% macro scd2_from_changes(relation, keys, columns, changed_at, order_by, deleted=none, carry=[]) %}
with ranked as (
    select
        *,
        {{ lakebed.surrogate_key(columns + ([deleted] if deleted else [])) }} as _state,
        row_number() over (partition by {{ keys | join(', ') }}, {{ changed_at }} order by {{ order_by }} desc) as _rank
    from {{ relation }}
),
compared as (
    select
        *,
        lag(_state) over (partition by {{ keys | join(', ') }} order by {{ changed_at }}) as _previous_state
    from ranked
    where _rank = 1
),
versions as (
    select
        *,
        lead({{ changed_at }}) over (partition by {{ keys | join(', ') }} order by {{ changed_at }}) as valid_to
    from compared
    where _previous_state is null or _previous_state != _state
)

select
    {%- for column in keys + columns + carry %}
    {{ column }},
    {%- endfor %}
    {{ changed_at }} as valid_from,
    valid_to,
    valid_to is null as is_current
from versions
{%- if deleted %}
where not coalesce({{ deleted }}, false)
{%- endif %}
{% endmacro %}
