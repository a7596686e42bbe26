{#- scd2_from_changes for what is new: in each build only the keys that new batches change are made anew,
    from their whole log, so a late change finds its place; and only versions that come out otherwise
    than the table has them are handed on. The log is looked through, and what is sorted and written
    follows what changed. The table is the one that rebuilding gives. For a model with the `upsert`
    strategy and `advance_position`.
    Arguments: as of scd2_from_changes, and
      relation       has a _batch_id; a relation, or the name of a CTE over it, such as that of
                     changes_by_key;
      source         the relation whose position the model keeps; relation itself, if it is one.
    Returns: what scd2_from_changes does, and _batch_id (the newest of the key), and _is_deleted, true of
    versions that are none any more. The model's config:
      materialized='incremental', incremental_strategy='upsert', unique_key='version_key',
      pre_hook="{% raw %}{{ lakebed.advance_position(['the_changes']) }}{% endraw %}",
      meta={'upsert': {'version': '_batch_id', 'delete_flag': '_is_deleted', 'delete': 'hard', 'on_equal': 'replace'}}
    Engines: DuckDB, Spark.
    Example: {{ lakebed.scd2_incremental(ref('changes'), 'id', ['name', 'city'], 'updated_at') }} -#}
{% macro scd2_incremental(relation, keys, columns, changed_at, order_by=none, deleted=none, surrogate_key='version_key', carry=[], source=none) %}
{%- set keys = [keys] if keys is string else keys -%}
{%- set source = source or relation -%}
{%- if source is string -%}
    {{ exceptions.raise_compiler_error("Lakebed: scd2_incremental of the CTE " ~ source ~ " needs source, the relation that has the new batches.") }}
{%- endif -%}
{%- set names = [surrogate_key] + keys + columns + carry + ['valid_from', 'valid_to', 'is_current'] -%}
{%- set same_key -%}
    {%- for key in keys -%}touched.{{ key }} is not distinct from other.{{ key }}{{ ' and ' if not loop.last }}{%- endfor -%}
{%- endset -%}
{#- A query of its own: it may follow the CTE that it reads. #}
select * from (
with touched as (
    select
        {{ keys | join(', ') }},
        max(_batch_id) as _batch_id
    from {{ relation }}
    where {{ lakebed.new_batches(source) }}
    group by {{ keys | join(', ') }}
),

{% if is_incremental() -%}
log_of_touched as (
    select other.*
    from {{ relation }} as other
    inner join touched on {{ same_key }}
),

held as (
    select other.*
    from {{ this }} as other
    inner join touched on {{ same_key }}
),

{% endif -%}
versions as (
    {{ lakebed.scd2_from_changes('log_of_touched' if is_incremental() else relation, keys, columns, changed_at, order_by, deleted, surrogate_key, carry) }}
),

final as (
    select
        {%- for name in names %}
        other.{{ name }},
        {%- endfor %}
        touched._batch_id,
        false as _is_deleted
    from versions as other
    inner join touched on {{ same_key }}
    {%- if is_incremental() %}
    left join held on other.{{ surrogate_key }} = held.{{ surrogate_key }}
    where
        held.{{ surrogate_key }} is null
        {%- for name in columns + carry + ['valid_to'] %}
        or held.{{ name }} is distinct from other.{{ name }}
        {%- endfor %}
    union all
    {{ lakebed.rows_gone('held', 'versions', [surrogate_key], names) }}
    {%- endif %}
)

select * from final
) as handed_on
{% endmacro %}
