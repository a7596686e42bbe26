{#- Where a model has read its bronze table up to. The position moves in the same
    transaction as the rows (a pre-hook opens it), so a build killed anywhere loads each batch
    once; and because it is an update of one row, two builds at once conflict instead of both
    loading the batch. -#}

{% macro positions() -%}
    {{- return(api.Relation.create(database=target.database, schema=var('lakebed_ops_schema', 'ops'), identifier='positions')) -}}
{%- endmacro %}

{#- Makes the table of positions. Run once a build, by on-run-start. -#}
{% macro create_positions() %}
    {%- if execute and flags.WHICH in ['run', 'build', 'snapshot', 'seed'] -%}
    {%- do adapter.create_schema(lakebed.positions().without_identifier()) -%}
    create table if not exists {{ lakebed.positions() }} (
        model {{ dbt.type_string() }},
        previous_batch bigint,
        batch bigint
    )
    {%- endif -%}
{% endmacro %}

{#- Pre-hook of an incremental model that reads batches. The new position is the newest batch in
    `source`, a relation with _batch_id; by default the model's only parent named bronze_*.
    Engines: DuckDB, Spark.
    Example: pre_hook: "{{ lakebed.advance_position() }}" -#}
{% macro advance_position(source=none) %}
    {%- if execute -%}
        {%- set parents = [] -%}
        {%- for id in model.depends_on.nodes if '.bronze_' in id -%}{%- do parents.append(graph.nodes[id]) -%}{%- endfor -%}
        {%- set parent = source or (api.Relation.create(database=parents[0].database, schema=parents[0].schema, identifier=parents[0].alias) if parents | length == 1) -%}
        {%- if not parent -%}
            {{ exceptions.raise_compiler_error("Lakebed: advance_position() needs the relation to read batches from: " ~ model.name ~ " has " ~ parents | length ~ " parents named bronze_*.") }}
        {%- endif -%}
    merge into {{ lakebed.positions() }} as position
    using (
        select '{{ model.name }}' as model, coalesce(max(_batch_id), 0) as batch from {{ parent }}
    ) as newest
    on position.model = newest.model
    when matched then update set previous_batch = position.batch, batch = newest.batch
    when not matched then insert (model, previous_batch, batch) values (newest.model, 0, newest.batch)
    {%- endif -%}
{% endmacro %}

{#- Condition for a model with that pre-hook: only the batches it has not read. Cost follows new data.
    Returns: a SQL condition; `true` on the first build and on a full refresh.
    Example: where {{ lakebed.new_batches() }} -#}
{% macro new_batches() -%}
    {%- if is_incremental() -%}
    _batch_id > (select previous_batch from {{ lakebed.positions() }} where model = '{{ model.name }}')
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}
