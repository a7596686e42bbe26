{#- What follows the columns of a `create table` of our own, so that it can be merged into: the lake's
    table format, and a column to partition by. Arguments: partition, an optional column.
    Returns: text. Engines: DuckDB (nothing: a DuckLake has one format), Spark. -#}
{% macro using_format(partition=none) %}{{- return(adapter.dispatch('using_format', 'lakebed')(partition)) -}}{% endmacro %}
{% macro duckdb__using_format(partition) %}{% endmacro %}
{% macro spark__using_format(partition) %} using {{ lakebed.table_format() }}
    {%- if partition %} partitioned by ({{ partition }}){% endif -%}
{% endmacro %}

{#- The format of new tables: ducklake, delta or iceberg. -#}
{% macro table_format() %}{{- return(adapter.dispatch('table_format', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__table_format() %}{{- return('ducklake') -}}{% endmacro %}
{% macro spark__table_format() %}{{- return(env_var('LAKEBED_TABLE_FORMAT', 'delta')) -}}{% endmacro %}
