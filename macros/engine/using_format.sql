{#- What follows the columns of a `create table` of our own, so that it can be merged into: the lake's
    table format, and a column to partition by. Arguments: partition, an optional column.
    Returns: text. Engines: DuckDB (nothing: a DuckLake has one format), Spark. -#}
{% macro using_format(partition=none) %}{{- return(adapter.dispatch('using_format', 'lakebed')(partition)) -}}{% endmacro %}
{% macro duckdb__using_format(partition) %}{% endmacro %}
{% macro spark__using_format(partition) %} using {{ env_var('LAKEBED_TABLE_FORMAT', 'delta') }}
    {%- if partition %} partitioned by ({{ partition }}){% endif -%}
{% endmacro %}
