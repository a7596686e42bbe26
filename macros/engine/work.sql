{#- Erasure and other work keep out of each other's way. A catalogue in a file is one process's, and there is
    nothing to do. Elsewhere a build that read a subject's rows before an erasure would bring them back after
    it, and files that it has written and not committed yet look like those of a writer that died, which an
    erasure removes. So whoever writes is written down while it does, an erasure likewise, and each looks for
    the other after that: one of the two sees it. On Spark they are in ops.work_in_progress; where DuckLake's
    catalogue is in PostgreSQL, in a table beside it, so that a build costs no files. -#}

{#- Work begins. Refuses while an erasure has begun and not ended.
    Arguments: run, what tells this work from others; what, for people. Engines: DuckDB, Spark. -#}
{% macro begin_work(run, what) %}
    {%- if lakebed.writes_beside_others() -%}
        {%- set text = lakebed.text_literal -%}
        {%- do lakebed.create_work_in_progress() -%}
        {%- do lakebed.change_work('insert into ' ~ lakebed.work_in_progress() ~ ' select ' ~ text(run) ~ ', ' ~ text(what) ~ ', current_timestamp') -%}
        {%- set erasing = lakebed.work_of("what = 'erasure'") -%}
        {%- if erasing -%}
            {%- do lakebed.end_work(run) -%}
            {{ exceptions.raise_compiler_error("Lakebed: an erasure that began at " ~ erasing[0].began ~ " has not ended: nothing may be written before it has. When it was killed, run it again with the same keys.") }}
        {%- endif -%}
    {%- endif -%}
{% endmacro %}

{#- Work has ended. -#}
{% macro end_work(run) %}
    {%- if lakebed.writes_beside_others() -%}
        {%- do lakebed.change_work('delete from ' ~ lakebed.work_in_progress() ~ ' where run = ' ~ lakebed.text_literal(run)) -%}
    {%- endif -%}
{% endmacro %}

{#- An erasure begins. Refuses while other work has not ended, and in a project whose builds do not say that
    they run.
    Arguments: run, the request's name; nothing_runs: whatever has not ended was killed. -#}
{% macro begin_erasure(run, nothing_runs=false) %}
    {%- for macro in ['begin_build', 'end_build'] if not lakebed.has_hook(macro) -%}
        {{ exceptions.raise_compiler_error("Lakebed: no hook in dbt_project.yml calls lakebed." ~ macro ~ "(): a build that runs meanwhile would bring rows back, unseen (README, 'Use only the macros'). Nothing was erased.") }}
    {%- endfor -%}
    {%- set text = lakebed.text_literal -%}
    {%- do lakebed.create_work_in_progress() -%}
    {%- if nothing_runs -%}{%- do lakebed.change_work('delete from ' ~ lakebed.work_in_progress() ~ " where what <> 'erasure'") -%}{%- endif -%}
    {%- set begun_before = lakebed.work_of('run = ' ~ text(run)) -%}
    {%- if not begun_before -%}
        {%- do lakebed.change_work('insert into ' ~ lakebed.work_in_progress() ~ ' select ' ~ text(run) ~ ", 'erasure', current_timestamp") -%}
    {%- endif -%}
    {%- set working = lakebed.work_of("what <> 'erasure'") -%}
    {%- if working -%}
        {#- What a killed erasure has begun is not taken back. -#}
        {%- if not begun_before -%}{%- do lakebed.end_work(run) -%}{%- endif -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ working[0].what ~ " (" ~ working[0].run ~ ") that began at " ~ working[0].began ~ " has not ended" ~ (', nor have ' ~ (working | length - 1) ~ ' more' if working | length > 1) ~ ". Wait for it; when it was killed and nothing runs: --nothing-runs. Nothing was erased.") }}
    {%- endif -%}
{% endmacro %}

{#- Whether others may write at the same time. Returns: boolean. -#}
{% macro writes_beside_others() %}{{- return(adapter.dispatch('writes_beside_others', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__writes_beside_others() %}
    {#- A project that has its tables in a plain file of DuckDB is one process, too. -#}
    {%- set database = lakebed.text_literal(target.database) -%}
    {%- if not run_query('select 1 from duckdb_databases() where database_name = ' ~ database ~ " and type = 'ducklake'").rows -%}{{- return(false) -}}{%- endif -%}
    {{- return(lakebed.has_shared_catalogue(target.database)) -}}
{% endmacro %}
{% macro spark__writes_beside_others() %}{{- return(true) -}}{% endmacro %}

{#- Whether a DuckLake's catalogue is a database server's, not a file of one process. Returns: boolean. -#}
{% macro has_shared_catalogue(database) %}
    {{- return(run_query('select 1 from ducklake_settings(' ~ lakebed.text_literal(database) ~ ") where catalog_type != 'duckdb'").rows | length > 0) -}}
{% endmacro %}

{#- The table, in the words of who keeps it: of PostgreSQL itself, whose transactions are none of DuckDB's. -#}
{% macro work_in_progress() %}{{- return(adapter.dispatch('work_in_progress', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__work_in_progress() %}{{- return('lakebed_work_in_progress') -}}{% endmacro %}
{% macro spark__work_in_progress() %}{{- return(lakebed.ops_relation('work_in_progress')) -}}{% endmacro %}

{% macro create_work_in_progress() %}{{- return(adapter.dispatch('create_work_in_progress', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__create_work_in_progress() %}
    {#- Two processes may be the first at once: then the other one has made it. -#}
    {%- do lakebed.change_work('do $$ begin create table if not exists ' ~ lakebed.work_in_progress() ~ ' (run varchar, what varchar, began_at timestamptz); exception when unique_violation or duplicate_table then null; end $$') -%}
{% endmacro %}
{% macro spark__create_work_in_progress() %}
    {%- do adapter.create_schema(lakebed.work_in_progress().without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.work_in_progress() ~ ' (run string, what string, began_at timestamp)' ~ lakebed.using_format()) -%}
{% endmacro %}

{#- Changes the table, at once. -#}
{% macro change_work(statement) %}{{- return(adapter.dispatch('change_work', 'lakebed')(statement)) -}}{% endmacro %}
{% macro duckdb__change_work(statement) %}
    {%- do run_query('call postgres_execute(' ~ lakebed.catalogue_database() ~ ', ' ~ lakebed.text_literal(statement) ~ ', use_transaction => false)') -%}
{% endmacro %}
{% macro spark__change_work(statement) %}{%- do run_query(statement) -%}{% endmacro %}

{#- What has begun and not ended, the oldest first. Returns: a list of {run, what, began}. -#}
{% macro work_of(condition) %}
    {%- set found = [] -%}
    {%- for row in adapter.dispatch('work_rows', 'lakebed')('select run, what, began_at from ' ~ lakebed.work_in_progress() ~ ' where ' ~ condition) -%}
        {%- do found.append({'run': row[0], 'what': row[1], 'began': row[2]}) -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{% macro duckdb__work_rows(query) %}
    {{- return(run_query("select run, what, strftime(began_at at time zone 'UTC', '%Y-%m-%d %H:%M:%S UTC') from postgres_query(" ~ lakebed.catalogue_database() ~ ', ' ~ lakebed.text_literal(query) ~ ', use_transaction => false) order by began_at, run').rows) -}}
{% endmacro %}
{% macro spark__work_rows(query) %}
    {{- return(run_query('select run, what, cast(began_at as string) from (' ~ query ~ ') order by began_at, run').rows) -}}
{% endmacro %}

{#- The name under which DuckLake's catalogue is attached, an SQL literal. -#}
{% macro catalogue_database() %}{{- return(lakebed.text_literal('__ducklake_metadata_' ~ target.database)) -}}{% endmacro %}

{#- A command of dbt that writes begins, and ends. Engines: DuckDB, Spark.
    Example: on-run-start: "{{ lakebed.begin_build() }}", on-run-end: "{{ lakebed.end_build() }}" -#}
{% macro begin_build() %}
    {%- if execute and flags.WHICH in lakebed.writing_commands() -%}{%- do lakebed.begin_work(invocation_id, 'dbt ' ~ flags.WHICH) -%}{%- endif -%}
{% endmacro %}

{% macro end_build() %}
    {%- if execute and flags.WHICH in lakebed.writing_commands() -%}{%- do lakebed.end_work(invocation_id) -%}{%- endif -%}
{% endmacro %}

{% macro writing_commands() %}{{- return(['run', 'build', 'snapshot', 'seed', 'clone', 'retry']) -}}{% endmacro %}
