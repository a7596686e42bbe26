{#- An expression that a filter on it does not compute again. Spark pushes a filter down to the scan
    by copying the expressions of all columns on the way, each copy with copies of its own: of a
    hundred lines of parsing come tens of thousands. DuckDB copies too, less (a sixth of the time). No
    engine copies what is not deterministic; and Spark sees through a comparison of rand().
    Arguments: expression. Returns: SQL expression of the same value. Engines: DuckDB, Spark. -#}
{% macro computed_once(expression) %}{{- return(adapter.dispatch('computed_once', 'lakebed')(expression)) -}}{% endmacro %}
{% macro duckdb__computed_once(expression) -%} case when random() < 2 then {{ expression }} end {%- endmacro %}
{% macro spark__computed_once(expression) -%} case when monotonically_increasing_id() >= 0 then {{ expression }} end {%- endmacro %}
