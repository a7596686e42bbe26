{#- Ends the transaction that a hook's own queries opened: dbt rolls it back else. Spark has none. -#}
{% macro commit() %}{{- return(adapter.dispatch('commit', 'lakebed')()) -}}{% endmacro %}
{% macro duckdb__commit() %}{%- do adapter.commit() -%}{% endmacro %}
{% macro spark__commit() %}{% endmacro %}
