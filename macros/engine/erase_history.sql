{#- What erasure must know and do of the history of some tables. On DuckDB `lakebed erase` does all of it
    (python/lakebed/erase/ducklake.py). -#}

{#- Where tables lie, for what SQL cannot do there. Refuses what an erasure could not make physical.
    Arguments: tables, a list of {database, schema, identifier}.
    Prints one line of JSON: the folders of the tables. Engines: DuckDB (none), Spark with Delta. -#}
{% macro erase_folders(tables) %}{{- return(adapter.dispatch('erase_folders', 'lakebed')(tables)) -}}{% endmacro %}

{% macro duckdb__erase_folders(tables) %}{%- do print('LAKEBED ' ~ tojson({'folders': []})) -%}{% endmacro %}

{% macro spark__erase_folders(tables) %}
    {%- set folders = [] -%}
    {%- for relation in lakebed.erased_tables(tables) -%}
        {%- set detail = run_query('describe detail ' ~ relation) -%}
        {%- if detail.columns['format'].values()[0] != 'delta' -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ relation ~ " is no Delta table, whose history cannot be erased yet. Nothing was erased.") }}
        {%- endif -%}
        {%- do folders.append(detail.columns['location'].values()[0] | string) -%}
    {%- endfor -%}
    {%- do print('LAKEBED ' ~ tojson({'folders': folders})) -%}
{% endmacro %}

{#- Takes from the history of some tables what an erasure left there: rows that deletion vectors hide,
    data files of old versions; and gives each a fresh starting point of its log, after which
    `lakebed erase` removes what came before. -#}
{% macro erase_history(tables) %}{{- return(adapter.dispatch('erase_history', 'lakebed')(tables)) -}}{% endmacro %}

{% macro duckdb__erase_history(tables) %}{% endmacro %}

{% macro spark__erase_history(tables) %}
    {%- do run_query("set spark.databricks.delta.retentionDurationCheck.enabled = false") -%}
    {%- for relation in lakebed.erased_tables(tables) -%}
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
    {%- endfor -%}
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
