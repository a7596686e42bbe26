{#- Takes from the history of some tables what an erasure left there: data files of old versions, and,
    where the format keeps values in its log, a fresh starting point of the log, after which
    `lakebed erase` removes what came before.
    Arguments: tables, a list of {database, schema, identifier}.
    Prints one line of JSON: the folders of the tables. Engines: Spark with Delta; on DuckDB
    `lakebed erase` does all of it (python/lakebed/erase/ducklake.py). -#}
{% macro erase_history(tables) %}{{- return(adapter.dispatch('erase_history', 'lakebed')(tables)) -}}{% endmacro %}

{% macro duckdb__erase_history(tables) %}{%- do print('LAKEBED ' ~ tojson({'folders': []})) -%}{% endmacro %}

{% macro spark__erase_history(tables) %}
    {%- set folders = [] -%}
    {%- do run_query("set spark.databricks.delta.retentionDurationCheck.enabled = false") -%}
    {%- for table in tables -%}
        {%- set relation = load_relation(api.Relation.create(database=none, schema=table.schema, identifier=table.identifier)) -%}
        {%- if relation -%}
            {%- set detail = run_query('describe detail ' ~ relation) -%}
            {%- if detail.columns['format'].values()[0] != 'delta' -%}
                {{ exceptions.raise_compiler_error("Lakebed: " ~ relation ~ " is no Delta table; the rows are erased, its history is not.") }}
            {%- endif -%}
            {%- set own = {} -%}
            {%- for row in run_query('show tblproperties ' ~ relation).rows -%}{%- do own.update({row[0]: row[1]}) -%}{%- endfor -%}
            {%- do run_query('vacuum ' ~ relation ~ ' retain 0 hours') -%}
            {#- A checkpoint with this very commit, without the names of removed files. -#}
            {%- set ours = {'delta.checkpointInterval': '1', 'delta.deletedFileRetentionDuration': 'interval 0 hours'} -%}
            {%- do run_query('alter table ' ~ relation ~ ' set tblproperties (' ~ lakebed.properties_sql(ours) ~ ')') -%}
            {%- for name in ours -%}
                {%- if name in own and own[name] != ours[name] -%}
                    {%- do run_query('alter table ' ~ relation ~ ' set tblproperties (' ~ lakebed.properties_sql({name: own[name]}) ~ ')') -%}
                {%- else -%}
                    {%- do run_query("alter table " ~ relation ~ " unset tblproperties if exists ('" ~ name ~ "')") -%}
                {%- endif -%}
            {%- endfor -%}
            {%- do folders.append(detail.columns['location'].values()[0] | string) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- do print('LAKEBED ' ~ tojson({'folders': folders})) -%}
{% endmacro %}

{% macro properties_sql(properties) -%}
    {%- for name, value in properties.items() -%} '{{ name }}' = {{ lakebed.text_literal(value) }}{{ ', ' if not loop.last }}{%- endfor -%}
{%- endmacro %}
