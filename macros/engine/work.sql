{#- Erasure and other work keep out of each other's way. On DuckDB a process has the catalogue to itself, and
    there is nothing to do. On Spark a build that read a subject's rows before an erasure would bring them
    back after it, and files that it has written and not committed yet look like those of a writer that
    died, which an erasure removes. So whoever writes is in ops.work_in_progress while it does, an erasure
    likewise, and each looks for the other after it has written itself down: one of the two sees it. -#}

{#- Work begins. Refuses while an erasure has begun and not ended.
    Arguments: run, what tells this work from others; what, for people. Engines: DuckDB (nothing), Spark. -#}
{% macro begin_work(run, what) %}{{- adapter.dispatch('begin_work', 'lakebed')(run, what) -}}{% endmacro %}
{% macro duckdb__begin_work(run, what) %}{% endmacro %}
{% macro spark__begin_work(run, what) %}
    {%- set text = lakebed.text_literal -%}
    {%- do lakebed.create_work_in_progress() -%}
    {%- do run_query('insert into ' ~ lakebed.work_in_progress() ~ ' select ' ~ text(run) ~ ', ' ~ text(what) ~ ', current_timestamp()') -%}
    {%- set erasing = lakebed.work_of("what = 'erasure'") -%}
    {%- if erasing -%}
        {%- do lakebed.end_work(run) -%}
        {{ exceptions.raise_compiler_error("Lakebed: an erasure that began at " ~ erasing[0].began ~ " has not ended: nothing may be written before it has. When it was killed, run it again with the same keys.") }}
    {%- endif -%}
{% endmacro %}

{#- Work has ended. -#}
{% macro end_work(run) %}{{- adapter.dispatch('end_work', 'lakebed')(run) -}}{% endmacro %}
{% macro duckdb__end_work(run) %}{% endmacro %}
{% macro spark__end_work(run) %}
    {%- do run_query('delete from ' ~ lakebed.work_in_progress() ~ ' where run = ' ~ lakebed.text_literal(run)) -%}
{% endmacro %}

{#- An erasure begins. Refuses while other work has not ended.
    Arguments: run, the request's name; nothing_runs: whatever has not ended was killed. -#}
{% macro begin_erasure(run, nothing_runs=false) %}{{- adapter.dispatch('begin_erasure', 'lakebed')(run, nothing_runs) -}}{% endmacro %}
{% macro duckdb__begin_erasure(run, nothing_runs) %}{% endmacro %}
{% macro spark__begin_erasure(run, nothing_runs) %}
    {%- set text = lakebed.text_literal -%}
    {%- do lakebed.create_work_in_progress() -%}
    {%- if nothing_runs -%}{%- do run_query('delete from ' ~ lakebed.work_in_progress() ~ " where what <> 'erasure'") -%}{%- endif -%}
    {%- set begun_before = lakebed.work_of('run = ' ~ text(run)) -%}
    {%- if not begun_before -%}
        {%- do run_query('insert into ' ~ lakebed.work_in_progress() ~ ' select ' ~ text(run) ~ ", 'erasure', current_timestamp()") -%}
    {%- endif -%}
    {%- set working = lakebed.work_of("what <> 'erasure'") -%}
    {%- if working -%}
        {#- What a killed erasure has begun is not taken back. -#}
        {%- if not begun_before -%}{%- do lakebed.end_work(run) -%}{%- endif -%}
        {{ exceptions.raise_compiler_error("Lakebed: " ~ working[0].what ~ " (" ~ working[0].run ~ ") that began at " ~ working[0].began ~ " has not ended" ~ (', nor have ' ~ (working | length - 1) ~ ' more' if working | length > 1) ~ ". Wait for it; when it was killed and nothing runs: --nothing-runs. Nothing was erased.") }}
    {%- endif -%}
{% endmacro %}

{% macro work_in_progress() -%}
    {{- return(lakebed.ops_relation('work_in_progress')) -}}
{%- endmacro %}

{% macro create_work_in_progress() %}
    {%- do adapter.create_schema(lakebed.work_in_progress().without_identifier()) -%}
    {%- do run_query('create table if not exists ' ~ lakebed.work_in_progress() ~ ' (run string, what string, began_at timestamp)' ~ lakebed.using_format()) -%}
{% endmacro %}

{#- What has begun and not ended, the oldest first. Returns: a list of {run, what, began}. -#}
{% macro work_of(condition) %}
    {%- set found = [] -%}
    {%- for row in run_query('select run, what, cast(began_at as string) from ' ~ lakebed.work_in_progress() ~ ' where ' ~ condition ~ ' order by began_at, run').rows -%}
        {%- do found.append({'run': row[0], 'what': row[1], 'began': row[2]}) -%}
    {%- endfor -%}
    {{- return(found) -}}
{% endmacro %}

{#- A command of dbt that writes begins, and ends. Engines: DuckDB (nothing), Spark.
    Example: on-run-start: "{{ lakebed.begin_build() }}", on-run-end: "{{ lakebed.end_build() }}" -#}
{% macro begin_build() %}
    {%- if execute and flags.WHICH in lakebed.writing_commands() -%}{%- do lakebed.begin_work(invocation_id, 'dbt ' ~ flags.WHICH) -%}{%- endif -%}
{% endmacro %}

{% macro end_build() %}
    {%- if execute and flags.WHICH in lakebed.writing_commands() -%}{%- do lakebed.end_work(invocation_id) -%}{%- endif -%}
{% endmacro %}

{% macro writing_commands() %}{{- return(['run', 'build', 'snapshot', 'seed', 'clone', 'retry']) -}}{% endmacro %}
