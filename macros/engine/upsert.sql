{#- Incremental strategy `upsert`: insert new keys, update a key only when the change is newer, delete
    on a flag. The changes may come duplicated, out of order, and split into batches in any
    way: the table ends the same.
    Settings: unique_key (NULL is a key like any other), and in the model's YAML
      config:
        incremental_strategy: upsert
        unique_key: order_id
        meta:
          upsert:
            version: updated_at        # required; NULL is the oldest
            delete_flag: is_deleted    # optional boolean column; NULL means false
            delete: tombstone          # or hard
            on_equal: converge         # or keep, replace
    delete: with `tombstone` a deleted key stays in the table with its flag true, so an older change
    that comes later loses. With `hard` the row is removed, and its version with it: an
    older change that comes in a later run brings the key back, and nothing can tell. Choose
    it only when changes come in order, or filter the flag in the next layer instead.
    on_equal: what a change of the same version does. `converge` takes the delete, then the row
    with the larger hash, so that contradicting changes end the same in any order; `keep`
    keeps what is there; `replace` takes what came last.
    The model ends with `upsert_source`, which does the same for the first run.
    dbt finds a strategy in the model's own project. A project that installs Lakebed adds one macro:
      {% raw %}{% macro get_incremental_upsert_sql(arg_dict) %}
          {% do return(lakebed.get_incremental_upsert_sql(arg_dict)) %}
      {% endmacro %}{% endraw %}
    Engines: DuckDB (DuckLake too: its MERGE takes one UPDATE or DELETE, so a hard delete is a
    statement of its own in the same transaction), Spark with Delta or Iceberg. -#}
{% macro get_incremental_upsert_sql(arg_dict) %}
    {%- if arg_dict.get('incremental_predicates') -%}
        {{ exceptions.raise_compiler_error("Lakebed: upsert takes no incremental_predicates; a key they hide would be inserted again.") }}
    {%- endif -%}
    {{- return(adapter.dispatch('upsert_sql', 'lakebed')(
        arg_dict['target_relation'],
        arg_dict['temp_relation'],
        arg_dict['dest_columns'] | map(attribute='name') | list,
        lakebed.upsert_spec(arg_dict.get('unique_key')),
    )) -}}
{% endmacro %}

{% macro duckdb__upsert_sql(target, source, columns, spec) %}
    {%- if spec.delete == 'hard' %}
delete from {{ target }} as target
using (
    {{ lakebed.upsert_source(source, spec['keys'], spec.version, spec.delete_flag, 'tombstone', columns) }}
) as source
where {{ lakebed.upsert_same_key(spec) }}
    and source.{{ spec.delete_flag }}
    and ({{ lakebed.upsert_is_newer(columns, spec) }});
    {%- endif %}
merge into {{ target }} as target
using (
    {{ lakebed.upsert_source(source, spec['keys'], spec.version, spec.delete_flag, spec.delete, columns) }}
) as source
on {{ lakebed.upsert_same_key(spec) }}
when matched and ({{ lakebed.upsert_is_newer(columns, spec) }})
    then update set {{ lakebed.upsert_assignments(columns) }}
when not matched
    then insert ({{ lakebed.quoted_columns(columns) }}) values ({{ lakebed.quoted_columns(columns, 'source') }})
{% endmacro %}

{% macro spark__upsert_sql(target, source, columns, spec) %}
merge into {{ target }} as target
using (
    {{ lakebed.upsert_source(source, spec['keys'], spec.version, spec.delete_flag, 'tombstone', columns) }}
) as source
on {{ lakebed.upsert_same_key(spec) }}
{%- if spec.delete == 'hard' %}
when matched and source.{{ spec.delete_flag }} and ({{ lakebed.upsert_is_newer(columns, spec) }})
    then delete
{%- endif %}
when matched and {{ 'not coalesce(source.' ~ spec.delete_flag ~ ', false) and ' if spec.delete == 'hard' }}({{ lakebed.upsert_is_newer(columns, spec) }})
    then update set {{ lakebed.upsert_assignments(columns) }}
when not matched {{ 'and not coalesce(source.' ~ spec.delete_flag ~ ', false)' if spec.delete == 'hard' }}
    then insert ({{ lakebed.quoted_columns(columns) }}) values ({{ lakebed.quoted_columns(columns, 'source') }})
{% endmacro %}

{% macro upsert_same_key(spec) -%}
    {% for key in spec['keys'] %}target.{{ key }} is not distinct from source.{{ key }}{{ " and " if not loop.last }}{% endfor %}
{%- endmacro %}

{% macro upsert_assignments(columns) -%}
    {% for column in columns %}{{ adapter.quote(column) }} = source.{{ adapter.quote(column) }}{{ ", " if not loop.last }}{% endfor %}
{%- endmacro %}

{% macro quoted_columns(columns, alias=none) -%}
    {% for column in columns %}{{ alias ~ '.' if alias }}{{ adapter.quote(column) }}{{ ", " if not loop.last }}{% endfor %}
{%- endmacro %}

{#- Condition: the source's change is to be taken over the target's row. -#}
{% macro upsert_is_newer(columns, spec) %}
    source.{{ spec.version }} > target.{{ spec.version }}
    or (source.{{ spec.version }} is not null and target.{{ spec.version }} is null)
    {%- if spec.on_equal != 'keep' %}
    {%- set source_hash = lakebed.row_hash('source', columns) %}
    {%- set target_hash = lakebed.row_hash('target', columns) %}
    or (
        source.{{ spec.version }} is not distinct from target.{{ spec.version }}
        {%- if spec.on_equal == 'replace' %}
        and {{ source_hash }} != {{ target_hash }}
        {%- elif spec.delete_flag %}
        and (
            (coalesce(source.{{ spec.delete_flag }}, false) and not coalesce(target.{{ spec.delete_flag }}, false))
            or (
                coalesce(source.{{ spec.delete_flag }}, false) = coalesce(target.{{ spec.delete_flag }}, false)
                and {{ source_hash }} > {{ target_hash }}
            )
        )
        {%- else %}
        and {{ source_hash }} > {{ target_hash }}
        {%- endif %}
    )
    {%- endif %}
{% endmacro %}
