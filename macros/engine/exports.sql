{#- What exports, imports and retention need of an engine. -#}

{% macro write_parquet(rows, folder) %}{{- return(adapter.dispatch('write_parquet', 'lakebed')(rows, folder)) -}}{% endmacro %}
{% macro duckdb__write_parquet(rows, folder) %}
    {%- do run_query('copy (' ~ rows ~ ') to ' ~ lakebed.text_literal(folder) ~ " (format parquet, file_size_bytes '256MB')") -%}
{% endmacro %}
{% macro spark__write_parquet(rows, folder) %}
    {%- do run_query('insert overwrite directory ' ~ lakebed.text_literal(folder) ~ ' using parquet ' ~ rows) -%}
{% endmacro %}

{#- The Parquet files in a folder, for a FROM clause. -#}
{% macro parquet_files(folder) %}{{- return(adapter.dispatch('parquet_files', 'lakebed')(folder)) -}}{% endmacro %}
{% macro duckdb__parquet_files(folder) %}{{- return('read_parquet(' ~ lakebed.text_literal(folder ~ '/*.parquet') ~ ')') -}}{% endmacro %}
{% macro spark__parquet_files(folder) %}{{- return('parquet.`' ~ folder ~ '`') -}}{% endmacro %}

{#- Number of rows, and a sum of hashes of them that does not depend on their order. Compares within one
    engine. Arguments: rows, a select; columns, a list of {name, type}. Returns: [number, text]. -#}
{% macro rows_digest(rows, columns) %}
    {%- set typed = [] -%}
    {%- for column in columns -%}{%- do typed.append('cast(' ~ adapter.quote(column.name) ~ ' as ' ~ column.type ~ ')') -%}{%- endfor -%}
    {%- set row = run_query('select count(*), ' ~ adapter.dispatch('sum_of_hashes', 'lakebed')(typed | join(', ')) ~ ' from (' ~ rows ~ ') as r').rows[0] -%}
    {{- return([row[0] | int, row[1] | string]) -}}
{% endmacro %}
{% macro duckdb__sum_of_hashes(columns) %}{{- return('cast(coalesce(sum(cast(hash(' ~ columns ~ ') as hugeint)), 0) as varchar)') -}}{% endmacro %}
{% macro spark__sum_of_hashes(columns) %}{{- return("concat('', coalesce(sum(cast(xxhash64(" ~ columns ~ ') as decimal(38, 0))), 0))') -}}{% endmacro %}

{#- A new table from Parquet files, if their rows have the digest that they should have. -#}
{% macro import_checked(new, files, columns, digest) %}{{- return(adapter.dispatch('import_checked', 'lakebed')(new, files, columns, digest)) -}}{% endmacro %}

{% macro imported_columns(columns) %}
    {%- set typed = [] -%}
    {%- for column in columns -%}{%- do typed.append('cast(' ~ adapter.quote(column.name) ~ ' as ' ~ column.type ~ ') as ' ~ adapter.quote(column.name)) -%}{%- endfor -%}
    {{- return(typed | join(', ')) -}}
{% endmacro %}

{% macro duckdb__import_checked(new, files, columns, digest) %}
    {%- do run_query('begin') -%}
    {%- do run_query('create table ' ~ new ~ ' as select ' ~ lakebed.imported_columns(columns) ~ ' from ' ~ files) -%}
    {%- if lakebed.rows_digest('select * from ' ~ new, columns) != digest -%}
        {%- do run_query('rollback') -%}
        {{ exceptions.raise_compiler_error("Lakebed: the rows are not those that the manifest speaks of; nothing was imported.") }}
    {%- endif -%}
    {%- do run_query('commit') -%}
{% endmacro %}

{% macro spark__import_checked(new, files, columns, digest) %}
    {%- if lakebed.rows_digest('select * from ' ~ files, columns) != digest -%}
        {{ exceptions.raise_compiler_error("Lakebed: the rows are not those that the manifest speaks of; nothing was imported.") }}
    {%- endif -%}
    {%- do run_query('create table ' ~ new ~ lakebed.using_format() ~ ' as select ' ~ lakebed.imported_columns(columns) ~ ' from ' ~ files) -%}
{% endmacro %}

{#- Deletes rows, if they still have the digest that they had when they were archived, and says so in the
    log: in one transaction on DuckDB. -#}
{% macro delete_checked(relation, condition, columns, digest, record) %}{{- return(adapter.dispatch('delete_checked', 'lakebed')(relation, condition, columns, digest, record)) -}}{% endmacro %}

{% macro duckdb__delete_checked(relation, condition, columns, digest, record) %}
    {%- do adapter.commit() -%}
    {%- do run_query('begin') -%}
    {%- set same = digest is none or lakebed.rows_digest('select * from ' ~ relation ~ ' where ' ~ condition, columns) == digest -%}
    {%- if not same -%}
        {%- do run_query('rollback') -%}
        {{- return(false) -}}
    {%- endif -%}
    {%- do run_query('delete from ' ~ relation ~ ' where ' ~ condition) -%}
    {%- do run_query(record) -%}
    {%- do run_query('commit') -%}
    {{- return(true) -}}
{% endmacro %}

{#- Two commits: a run killed between them finds the archived rows gone, and only writes the log. -#}
{% macro spark__delete_checked(relation, condition, columns, digest, record) %}
    {%- if digest is not none and lakebed.rows_digest('select * from ' ~ relation ~ ' where ' ~ condition, columns) != digest -%}
        {{- return(false) -}}
    {%- endif -%}
    {%- do run_query('delete from ' ~ relation ~ ' where ' ~ condition) -%}
    {%- do run_query(record) -%}
    {{- return(true) -}}
{% endmacro %}
