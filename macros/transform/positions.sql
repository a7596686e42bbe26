{#- Up to which batch a model has read each of its sources.
    DuckDB: a position moves in the same transaction as the rows (a pre-hook opens it), so a build
    killed anywhere loads each batch once; and because it is an update of one row, two builds
    at once conflict instead of both loading the batch.
    Spark has no transaction over two tables: the position moves after the rows (settle_position).
    A build killed between the two reads the batch again: a merge does not mind, and an append
    leaves out the batches that the table has already (spark_incremental.sql). Of two builds at
    once only the one that moved a position last may settle it: it alone knows what was read. The
    table is partitioned by model there, so that models of several threads do not conflict. -#}

{% macro positions() -%}
    {{- return(lakebed.ops_relation('positions')) -}}
{%- endmacro %}

{#- Makes the table of positions. Run once a build, by on-run-start. -#}
{% macro create_positions() %}
    {%- if execute and flags.WHICH in ['run', 'build', 'snapshot', 'seed'] -%}
    {%- do adapter.create_schema(lakebed.positions().without_identifier()) -%}
    {%- do run_query(
        'create table if not exists ' ~ lakebed.positions() ~ ' ('
        ~ 'model ' ~ dbt.type_string() ~ ', source ' ~ dbt.type_string() ~ ', previous_batch bigint, batch bigint, build ' ~ dbt.type_string()
        ~ ')' ~ lakebed.using_format('model')
    ) -%}
    {%- if 'build' not in adapter.get_columns_in_relation(lakebed.positions()) | map(attribute='name') -%}
        {#- A lake made before positions knew their build. -#}
        {%- do run_query('alter table ' ~ lakebed.positions() ~ ' add column build ' ~ dbt.type_string()) -%}
    {%- endif -%}
    {#- dbt rolls back what a hook leaves open. -#}
    {%- do lakebed.commit() -%}
    {%- endif -%}
{% endmacro %}

{#- Makes the bronze tables of streams that have not run yet, so that models can read them: those of
    dbt's sources that say `meta: {stream: true}`. Run once a build, by on-run-start. The columns
    are those of `lakebed stream` (python/lakebed/ingest/sink.py). -#}
{% macro create_stream_tables() %}
    {%- if execute and flags.WHICH in ['run', 'build'] -%}
    {%- set text = dbt.type_string() -%}
    {%- set ns = namespace(made=false) -%}
    {%- for source in graph.sources.values() if source.config.get('meta', {}).get('stream') -%}
        {%- if not adapter.get_relation(source.database, source.schema, source.identifier) -%}
            {%- set table = api.Relation.create(database=source.database, schema=source.schema, identifier=source.identifier) -%}
            {%- do adapter.create_schema(table.without_identifier()) -%}
            {%- do run_query(
                'create table if not exists ' ~ table ~ ' ('
                ~ '_source ' ~ text ~ ', _topic ' ~ text ~ ', _partition int, _offset bigint, _key ' ~ text ~ ', _record ' ~ text
                ~ ', _headers ' ~ text ~ ', _sent_at timestamp, _batch_id bigint, ingested_at timestamp)' ~ lakebed.using_format()
            ) -%}
            {%- set ns.made = true -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if ns.made -%}{%- do lakebed.commit() -%}{%- endif -%}
    {%- endif -%}
{% endmacro %}

{#- Pre-hook of an incremental model that reads batches: its positions move to the newest batch of
    each relation it reads. Relations are its parents that have a _batch_id.
    Arguments: parents, names of models or sources; by default the parents named bronze_*, and sources
    that streams write (meta.stream).
    Engines: DuckDB, Spark.
    Example: pre_hook: "{{ lakebed.advance_position() }}" -#}
{% macro advance_position(parents=none) %}
    {%- if execute -%}
        {%- set found = [] -%}
        {%- for id in model.depends_on.nodes -%}
            {%- set node = graph.nodes.get(id) or graph.sources.get(id) -%}
            {%- if node and (node.name in parents if parents else node.name.startswith('bronze_') or node.config.get('meta', {}).get('stream')) -%}
                {%- do found.append(node) -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if not found or (parents and found | length != parents | length) -%}
            {{ exceptions.raise_compiler_error("Lakebed: advance_position() of " ~ model.name ~ " must name parents of the model; it has " ~ model.depends_on.nodes | join(', ')) }}
        {%- endif -%}
    merge into {{ lakebed.positions() }} as position
    using (
        {%- for node in found %}
        select
            '{{ model.name }}' as model,
            '{{ node.alias or node.identifier }}' as source,
            coalesce(max(_batch_id), 0) as batch,
            '{{ invocation_id }}' as build
        from {{ api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias or node.identifier) }}
        {{- ' union all' if not loop.last }}
        {%- endfor %}
    ) as newest
    on position.model = '{{ model.name }}' and position.source = newest.source
    when matched then update set {{ lakebed.position_moves() }}
    when not matched then insert (model, source, previous_batch, batch, build)
        values (newest.model, newest.source, 0, newest.batch, newest.build)
    {%- endif -%}
{% endmacro %}

{#- Post-hook of each model with advance_position: the batches are read. On DuckDB nothing is left to
    do. Example: post_hook: "{{ lakebed.settle_position() }}" -#}
{% macro settle_position() %}{{- return(adapter.dispatch('settle_position', 'lakebed')()) -}}{% endmacro %}

{#- Hook of a model that takes in files: an update of one row in the model's transaction, so that of
    two builds that load at once the later one conflicts, and fails with nothing changed. A
    pre-hook of SQL models (what it reads is then read in the transaction, too); in a Python model,
    whose rows dbt-duckdb first writes elsewhere, it does nothing but as a post-hook.
    Engines: DuckDB; nothing on Spark, which has no such transaction.
    Example: pre_hook: "{{ lakebed.fence() }}" -#}
{% macro fence(after=false) %}{{- return(adapter.dispatch('fence', 'lakebed')(after)) -}}{% endmacro %}

{#- Condition for a model with advance_position: only the batches it has not read. Cost follows new data.
    Arguments: source, the relation read; column, where its batch stands.
    Returns: a SQL condition; `true` on the first build and on a full refresh.
    Example: where {{ lakebed.new_batches(ref('bronze_shop__orders')) }} -#}
{% macro new_batches(source, column='_batch_id') -%}
    {%- if is_incremental() -%}
    {{ column }} > (
        select previous_batch from {{ lakebed.positions() }}
        where model = '{{ model.name }}' and source = '{{ source.identifier }}'
    )
    {%- else -%}
    true
    {%- endif -%}
{%- endmacro %}
