{#- What a table's storage looks like: files, bytes, the mean size of a file, files with deleted rows and
    the versions that are kept.
    Arguments: relation, or `schema.table`; without it, every table of the project that is built.
    Prints a line a table, the most files first; returns a list of dictionaries.
    Engines: DuckDB (DuckLake), Spark (Delta, Iceberg).
    Example: dbt run-operation health -#}
{% macro health(relation=none) %}
    {%- if execute -%}
        {%- set found = [] -%}
        {%- for table in ([lakebed.stored_table(relation)] if relation else lakebed.stored_tables()) -%}
            {%- do found.append(lakebed.table_health(table)) -%}
        {%- endfor -%}
        {%- do print('%8s %12s %10s %8s %9s  %s' | format('files', 'bytes', 'mean', 'deleted', 'versions', 'table')) -%}
        {%- for row in found | sort(attribute='files', reverse=true) -%}
            {%- do print('%8d %12d %10d %8s %9d  %s' | format(row.files, row.bytes, row.mean_bytes, row.files_with_deletes, row.versions, row.table)) -%}
        {%- endfor -%}
        {{- return(found) -}}
    {%- endif -%}
{% endmacro %}
