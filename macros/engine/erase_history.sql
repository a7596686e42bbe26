{#- What erasure must know and do of the history of some tables. On DuckDB `lakebed erase` does all of it
    (python/lakebed/erase/ducklake.py). -#}

{#- Where tables lie, for what SQL cannot do there. Refuses what an erasure could not make physical.
    Arguments: tables, a list of {database, schema, identifier}.
    Prints one line of JSON: folder and format of each table, and names of streams, whose tables come
    with those of the policy. Engines: DuckDB (none), Spark (Delta, Iceberg). -#}
{% macro erase_folders(tables) %}{{- return(adapter.dispatch('erase_folders', 'lakebed')(tables)) -}}{% endmacro %}

{% macro duckdb__erase_folders(tables) %}{%- do print('LAKEBED ' ~ tojson({'tables': [], 'streams': []})) -%}{% endmacro %}

{% macro spark__erase_folders(tables) %}
    {%- set found, streams = [], [] -%}
    {%- for table in lakebed.stream_tables() if table.identifier.startswith('positions__') -%}
        {%- do streams.append(table.identifier.removeprefix('positions__')) -%}
    {%- endfor -%}
    {%- for relation in lakebed.erased_tables(tables + lakebed.stream_tables()) -%}
        {%- if not (relation.is_delta or relation.is_iceberg) -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ relation ~ " is no Delta or Iceberg table, whose history cannot be erased. Nothing was erased.") }}
        {%- endif -%}
        {%- do found.append(lakebed.by_format(relation, lakebed.delta_erase_folder, lakebed.iceberg_erase_folder)(relation)) -%}
    {%- endfor -%}
    {%- do print('LAKEBED ' ~ tojson({'tables': found, 'streams': streams})) -%}
{% endmacro %}

{#- What sinks write besides bronze: the DLQ, and positions, where each keeps its last batch. -#}
{% macro stream_tables() %}
    {%- set found = [] -%}
    {%- for name in lakebed.tables_like('ops', 'dlq|positions__*') -%}
        {%- do found.append({'database': none, 'schema': 'ops', 'identifier': name}) -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{% macro delta_erase_folder(relation) %}
    {%- set folder = run_query('describe detail ' ~ relation).columns['location'].values()[0] | string -%}
    {{- return({'folder': folder, 'format': 'delta'}) -}}
{% endmacro %}

{#- Takes from the history of some tables what an erasure left there, so far as SQL can; `lakebed erase` does
    the rest. Prints one line of JSON: the files that each Iceberg table is made of then, by its folder. -#}
{% macro erase_history(tables) %}{{- return(adapter.dispatch('erase_history', 'lakebed')(tables)) -}}{% endmacro %}

{% macro duckdb__erase_history(tables) %}{% endmacro %}

{% macro spark__erase_history(tables) %}
    {%- set kept = {} -%}
    {%- for relation in lakebed.erased_tables(tables + lakebed.stream_tables()) -%}
        {%- do kept.update(lakebed.by_format(relation, lakebed.delta_erase_history, lakebed.iceberg_erase_history)(relation) or {}) -%}
    {%- endfor -%}
    {%- do print('LAKEBED ' ~ tojson({'kept': kept})) -%}
{% endmacro %}

{#- Rows that deletion vectors hide, and data files of old versions; and a fresh starting point of the log,
    after which `lakebed erase` removes what came before. -#}
{% macro delta_erase_history(relation) %}
    {%- do run_query("set spark.databricks.delta.retentionDurationCheck.enabled = false") -%}
    {%- set own = {} -%}
    {%- for row in run_query('show tblproperties ' ~ relation).rows -%}{%- do own.update({row[0]: row[1]}) -%}{%- endfor -%}
    {%- if 'delta.enableDeletionVectors' in own or 'delta.feature.deletionVectors' in own -%}
        {#- All of it anew: REORG does not run with Delta 4.0.0 on Spark 4.0.2, and OPTIMIZE leaves a single
            file with hidden rows as it is. -#}
        {%- do run_query('set spark.sql.sources.partitionOverwriteMode = static') -%}
        {%- do run_query('insert overwrite table ' ~ relation ~ ' select * from ' ~ relation) -%}
    {%- endif -%}
    {%- do run_query('vacuum ' ~ relation ~ ' retain 0 hours') -%}
    {#- A checkpoint with this very commit, without the names of removed files. What a killed run has
        set is not the table's own. -#}
    {%- set ours = {'delta.checkpointInterval': '1', 'delta.deletedFileRetentionDuration': 'interval 0 hours'} -%}
    {%- do run_query('alter table ' ~ relation ~ ' set tblproperties (' ~ lakebed.properties_sql(ours) ~ ')') -%}
    {%- set before = {} -%}
    {%- for name in ours if own.get(name, ours[name]) != ours[name] -%}{%- do before.update({name: own[name]}) -%}{%- endfor -%}
    {%- if before -%}
        {%- do run_query('alter table ' ~ relation ~ ' set tblproperties (' ~ lakebed.properties_sql(before) ~ ')') -%}
    {%- endif -%}
    {%- if before | length < ours | length -%}
        {%- do run_query("alter table " ~ relation ~ " unset tblproperties if exists ('" ~ ours | reject('in', before) | join("', '") ~ "')") -%}
    {%- endif -%}
{% endmacro %}

{% macro properties_sql(properties) -%}
    {%- for name, value in properties.items() -%} '{{ name }}' = {{ lakebed.text_literal(value) }}{{ ', ' if not loop.last }}{%- endfor -%}
{%- endmacro %}

{#- The tables of a plan that are in the lake. -#}
{% macro erased_tables(tables) %}
    {%- set found = [] -%}
    {%- for table in tables -%}
        {%- set relation = load_relation(api.Relation.create(database=table.database or none, schema=table.schema, identifier=table.identifier)) -%}
        {%- if relation -%}{%- do found.append(relation) -%}{%- endif -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}
