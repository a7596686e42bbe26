{#- What follows the columns of a `create table` of our own, so that it can be merged into: the lake's
    table format. Returns: text. Engines: DuckDB (nothing: a DuckLake has one format), Spark. -#}
{% macro using_format() %}{{- return(adapter.dispatch('using_format', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__using_format() %}{% endmacro %}
{% macro spark__using_format() %} using {{ env_var('LAKEBED_TABLE_FORMAT', 'delta') }}{% endmacro %}
