{#- The newest change of each key: what a model with the `upsert` strategy ends with. dbt builds a
    model's first run straight from its select, without the strategy, so the select itself must
    hold one row per key; and every later run merges fewer rows.
    Arguments: relation, a relation or the name of a CTE with changes; the rest are taken from the
    model's config (unique_key, meta.upsert) and can be given instead:
      keys         a list of columns (a string is one); NULL is a key like any other;
      version      the column that orders the changes of a key; NULL is the oldest;
      delete_flag  a boolean column, true where the change deletes the key;
      delete       'tombstone' (default): a deleted key stays, flagged. 'hard': it is left out,
                   of a model's first run (later the strategy must see it, to delete);
      columns      the model's columns in order, for ties; only needed where the model has a
                   column order of its own.
    Of changes with one version the delete wins, then the larger row hash.
    Returns: a select of the relation's columns, one row a key. Engines: DuckDB, Spark.
    Example: {{ lakebed.upsert_source('changes') }} -#}
{% macro upsert_source(relation, keys=none, version=none, delete_flag=none, delete=none, columns=none) %}
{%- set spec = lakebed.upsert_spec(keys, version, delete_flag, delete) -%}
{#- A model's later runs hand their deletes on to the strategy, which says what it wants. -#}
{%- set leave_out = spec.delete == 'hard' and (delete or not is_incremental()) -%}
{%- if not columns and config.get('contract') and config.get('contract').enforced -%}
    {#- dbt builds a model with a contract in the order of its YAML. -#}
    {%- set columns = model.columns.keys() | list -%}
{%- endif -%}
select {{ lakebed.star_except(['_rank']) }}
from (
    select
        *,
        row_number() over (
            partition by {{ spec['keys'] | join(', ') }}
            order by
                {{ spec.version }} desc nulls last,
                {%- if spec.delete_flag %}
                coalesce({{ spec.delete_flag }}, false) desc,
                {%- endif %}
                {{ lakebed.row_hash('_row', columns) }} desc
        ) as _rank
    from {{ relation }} as _row
) as ranked
where _rank = 1
    {%- if leave_out %}
    and not coalesce({{ spec.delete_flag }}, false)
    {%- endif %}
{% endmacro %}

{#- The settings of an upsert, checked: given ones first, then the model's config.
    Returns: {keys, version, delete_flag, delete, on_equal}; placeholders while dbt parses. -#}
{% macro upsert_spec(keys=none, version=none, delete_flag=none, delete=none) %}
    {%- set meta = (config.get('meta') or {}).get('upsert', {}) -%}
    {%- set keys = keys or config.get('unique_key') or [] -%}
    {%- set spec = {
        'keys': [keys] if keys is string else keys | list,
        'version': version or meta.get('version'),
        'delete_flag': delete_flag or meta.get('delete_flag'),
        'on_equal': meta.get('on_equal', 'converge'),
    } -%}
    {%- do spec.update({'delete': (delete or meta.get('delete', 'tombstone')) if spec.delete_flag else none}) -%}
    {%- if execute -%}
        {%- if not spec['keys'] or not spec.version -%}
            {{ exceptions.raise_compiler_error("Lakebed: an upsert needs unique_key and meta.upsert.version, the column that says which change is newer.") }}
        {%- elif spec.on_equal not in ['converge', 'keep', 'replace'] -%}
            {{ exceptions.raise_compiler_error("Lakebed: meta.upsert.on_equal is 'converge', 'keep' or 'replace', not '" ~ spec.on_equal ~ "'.") }}
        {%- elif spec.delete not in [none, 'tombstone', 'hard'] -%}
            {{ exceptions.raise_compiler_error("Lakebed: meta.upsert.delete is 'tombstone' or 'hard', not '" ~ spec.delete ~ "'.") }}
        {%- endif -%}
    {%- endif -%}
    {{ return(spec) }}
{% endmacro %}
