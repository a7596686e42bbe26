{#- An expression that a filter on it does not compute again. Spark pushes a filter down to the scan
    by copying the expressions of all columns on the way, each copy with copies of its own: of a
    hundred lines of parsing come tens of thousands. It does not copy what is not deterministic.
    Arguments: expression. Returns: SQL expression of the same value. Engines: DuckDB, Spark. -#}
{% macro computed_once(expression) %}{{- return(adapter.dispatch('computed_once', 'lakebed')(expression)) -}}{% endmacro %}
{% macro duckdb__computed_once(expression) -%} {{ expression }} {%- endmacro %}
{% macro spark__computed_once(expression) -%} case when monotonically_increasing_id() >= 0 then {{ expression }} end {%- endmacro %}
