{#- A table to join with, sent whole to every executor, so that the other side of the join is not shuffled.
    Spark does that by itself up to 10 MB; this says so for a larger one, and for one whose size
    Spark misjudges. A table above `max_mb` (as it lies in its files; in memory it is several
    times as much) is an error, and so is a view, whose size nobody knows: a table that has grown out of
    memory should fail in one line and not in the executors.
    Arguments: relation; max_mb. Returns: SQL for FROM or JOIN, which wants an alias.
    Not for the side of an outer join whose rows are all kept: Spark ignores it there.
    Engines: DuckDB (the relation itself, which needs no hint; the size is looked at all the same), Spark (Delta, Iceberg).
    Example: from sales left join {{ lakebed.broadcast(ref('dim_products')) }} as products using (product_id) -#}
{% macro broadcast(relation, max_mb=100) %}
    {%- if max_mb is string or max_mb <= 0 -%}
        {{ exceptions.raise_compiler_error("Lakebed: max_mb of broadcast must be a number of megabytes above 0, not '" ~ max_mb ~ "'.") }}
    {%- endif -%}
    {%- set found = load_relation(relation) if execute else none -%}
    {%- if found -%}
        {%- set name = found.schema ~ '.' ~ found.identifier -%}
        {%- if found.is_view -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ name ~ " is a view, whose size nobody knows; broadcast the table below it, or make it a table.") }}
        {%- endif -%}
        {%- set bytes = lakebed.stored_bytes(found) -%}
        {%- if bytes is not none and bytes > max_mb * 1000000 -%}
            {{ exceptions.raise_compiler_error("Lakebed: " ~ name ~ " has " ~ '%.1f' | format(bytes / 1000000) ~ " MB in its files, and broadcast takes up to " ~ max_mb ~ ": join without it, or raise max_mb if every executor has the memory.") }}
        {%- endif -%}
    {%- endif -%}
    {{- return(adapter.dispatch('broadcast', 'lakebed')(relation)) -}}
{% endmacro %}

{% macro duckdb__broadcast(relation) %}{{- return(relation) -}}{% endmacro %}
{#- A hint counts for the joins of its own select only: so it stands in one around the table. -#}
{% macro spark__broadcast(relation) %}{{- return('(select /*+ broadcast */ * from ' ~ relation ~ ')') -}}{% endmacro %}

{#- Bytes of a table's files, from the engine's own statistics; none where it has no files. -#}
{% macro stored_bytes(relation) %}{{- return(adapter.dispatch('stored_bytes', 'lakebed')(relation)) -}}{% endmacro %}

{% macro duckdb__stored_bytes(relation) %}
    {%- if not adapter.is_ducklake(relation) -%}{{- return(none) -}}{%- endif -%}
    {%- set metadata = adapter.quote('__ducklake_metadata_' ~ relation.database) -%}
    {{- return(run_query(
        'select coalesce(sum(files.file_size_bytes), 0) from ' ~ metadata ~ '.ducklake_table as tables'
        ~ ' inner join ' ~ metadata ~ '.ducklake_schema as schemas on tables.schema_id = schemas.schema_id and schemas.end_snapshot is null'
        ~ ' inner join ' ~ metadata ~ '.ducklake_data_file as files on tables.table_id = files.table_id and files.end_snapshot is null'
        ~ ' where tables.end_snapshot is null and schemas.schema_name = ' ~ lakebed.text_literal(relation.schema) ~ ' and tables.table_name = ' ~ lakebed.text_literal(relation.identifier)
    ).rows[0][0] | int) -}}
{% endmacro %}

{% macro spark__stored_bytes(relation) %}
    {#- Of a table that this very run has made, dbt knows no format. -#}
    {%- set format = {} -%}
    {%- for row in run_query('describe extended ' ~ relation).rows if row[0] == 'Provider' -%}{%- do format.update(name=row[1] | lower) -%}{%- endfor -%}
    {%- if format.name == 'iceberg' -%}
        {{- return(run_query('select coalesce(sum(file_size_in_bytes), 0) from ' ~ relation ~ '.files').rows[0][0] | int) -}}
    {%- elif format.name == 'delta' -%}
        {{- return(run_query('describe detail ' ~ relation).rows[0]['sizeInBytes'] | int) -}}
    {%- endif -%}
    {{- return(none) -}}
{% endmacro %}
