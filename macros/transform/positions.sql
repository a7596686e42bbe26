{#- Up to which batch a model has read each of its sources.
    DuckDB: a position moves in the same transaction as the rows (a pre-hook opens it), so a build
    killed anywhere loads each batch once; and because it is an update of one row, two builds
    at once conflict instead of both loading the batch.
    Spark has no transaction over two tables: positions move after the rows (settle_positions), those of
    all models at the build's end, since a commit there costs seconds. After a build that was killed the
    next one reads the batches again: a merge does not mind, and an append leaves out those that the
    table has already (spark_incremental.sql). Of two builds at once only the one that moved a position
    last may settle it: it alone knows what was read. The table is partitioned by model there, so that
    models of several threads do not conflict. -#}

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
    {%- do lakebed.create_source_circuits() -%}
    {#- dbt rolls back what a hook leaves open. -#}
    {%- do lakebed.commit() -%}
    {%- if not lakebed.has_hook('settle_positions') -%}
        {%- do exceptions.warn("Lakebed: on-run-end has no settle_positions(results): on Spark no position is settled, and each build reads all batches again.") -%}
    {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#- Whether a hook of the project, or of an installed one, calls a macro. Arguments: macro, its name. -#}
{% macro has_hook(macro) %}
    {%- for node in graph.nodes.values() if node.resource_type == 'operation' and macro in node.raw_code -%}{{- return(true) -}}{%- endfor -%}
    {{- return(false) -}}
{% endmacro %}

{#- Makes the bronze tables of streams that have not run yet, so that models can read them: those of
    dbt's sources that say `meta: {stream: true}`, or, with the columns of what is decoded, `meta: {stream: avro}`
    or `protobuf`. Run once a build, by on-run-start. The columns are those of `lakebed stream`
    (python/lakebed/ingest/sink.py). -#}
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
                ~ '_source ' ~ text ~ ', _topic ' ~ text ~ ', _topic_partition int, _offset bigint, _key ' ~ text ~ ', _record ' ~ text
                ~ ', _headers ' ~ text ~ ', _sent_at timestamp, _batch_id bigint, ingested_at timestamp'
                ~ (', _raw binary, _schema_id ' ~ text if source.config.meta.stream in ['avro', 'protobuf'] else '') ~ ')' ~ lakebed.using_format()
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
        {%- set found = lakebed.batch_sources(model, parents) -%}
        {%- if not found or (parents and found | length != parents | length) -%}
            {{ exceptions.raise_compiler_error("Lakebed: advance_position() of " ~ model.name ~ " must name parents of the model; it has " ~ model.depends_on.nodes | join(', ')) }}
        {%- endif -%}
    merge into {{ lakebed.positions() }} as position
    using (
        {%- for node in found %}
        {%- set source = lakebed.batch_relation(node) %}
        {%- set halt = lakebed.halted_from(source.identifier) %}
        select
            '{{ model.name }}' as model,
            '{{ source.identifier }}' as source,
            {#- A model that had read on before its source was halted stays where it is. #}
            {{ 'greatest(coalesce(max(_batch_id), 0), ' ~ lakebed.position_of(source) ~ ')' if halt is not none else 'coalesce(max(_batch_id), 0)' }} as batch,
            '{{ invocation_id }}' as build
        from {{ source }}
        {%- if halt is not none %}
        where _batch_id < {{ halt }}
        {%- endif %}
        {{- ' union all' if not loop.last }}
        {%- endfor %}
    ) as newest
    on position.model = '{{ model.name }}' and position.source = newest.source
    when matched then update set {{ lakebed.position_moves() }}
    when not matched then insert (model, source, previous_batch, batch, build)
        values (newest.model, newest.source, 0, newest.batch, newest.build)
    {%- endif -%}
{% endmacro %}

{#- The parents of a model that come in batches, in the order of its graph: see advance_position. -#}
{% macro batch_sources(node, parents=none) %}
    {%- set found = [] -%}
    {%- for id in node.depends_on.nodes -%}
        {%- set parent = graph.nodes.get(id) or graph.sources.get(id) -%}
        {%- if parent and (parent.name in parents if parents else parent.name.startswith('bronze_') or parent.config.get('meta', {}).get('stream')) -%}
            {%- do found.append(parent) -%}
        {%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{% macro batch_relation(node) -%}
    {{- return(api.Relation.create(database=node.database, schema=node.schema, identifier=node.alias or node.identifier)) -}}
{%- endmacro %}

{#- Up to which batch this model has read a source, 0 for none of it. -#}
{% macro position_of(source) %}
    {{- return(run_query('select coalesce(max(batch), 0) from ' ~ lakebed.positions() ~ " where model = '" ~ model.name ~ "' and source = '" ~ source.identifier ~ "'").rows[0][0] | int) -}}
{% endmacro %}

{#- What models with advance_position have read, they have read: those of this run that did not fail.
    Run once a build, by on-run-end. On DuckDB nothing is left to do. Arguments: results, dbt's.
    Example: on-run-end: "{{ lakebed.settle_positions(results) }}" -#}
{% macro settle_positions(results) %}
    {%- if execute and flags.WHICH in ['run', 'build'] -%}{{- return(adapter.dispatch('settle_positions', 'lakebed')(results)) -}}{%- endif -%}
{% endmacro %}

{#- Hook of a model that takes in files: an update of one row in the model's transaction, so that of
    two builds that load at once the later one conflicts, and fails with nothing changed. A
    pre-hook of SQL models (what it reads is then read in the transaction, too); in a Python model,
    whose rows dbt-duckdb first writes elsewhere, it does nothing but as a post-hook.
    Engines: DuckDB; nothing on Spark, which has no such transaction.
    Example: pre_hook: "{{ lakebed.fence() }}" -#}
{% macro fence(after=false) %}{{- return(adapter.dispatch('fence', 'lakebed')(after)) -}}{% endmacro %}

{#- Condition for a model with advance_position: only the batches it has not read. Cost follows new data.
    Arguments: source, the relation read; column, where its batch stands.
    Returns: a SQL condition; `true` on the first build and on a full refresh, but of a source with a
    circuit breaker (judge_source).
    Example: where {{ lakebed.new_batches(ref('bronze_shop__orders')) }} -#}
{% macro new_batches(source, column='_batch_id') -%}
    {%- set of = "from " ~ lakebed.positions() ~ "
        where model = '" ~ model.name ~ "' and source = '" ~ source.identifier ~ "'" -%}
    {%- set terms = [] -%}
    {%- if is_incremental() -%}{%- do terms.append(column ~ ' > (
        select previous_batch ' ~ of ~ '
    )') -%}{%- endif -%}
    {#- What a halted source has beyond that is not read. -#}
    {%- if source.identifier in lakebed.judged_sources() -%}{%- do terms.append(column ~ ' <= (
        select batch ' ~ of ~ '
    )') -%}{%- endif -%}
    {{ '(' ~ terms | join('
    and ') ~ ')' if terms else 'true' }}
{%- endmacro %}
