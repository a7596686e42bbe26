{#- The row of a table alias as one value, to order rows by all their columns when nothing else
    tells them apart. Arguments: alias, a table alias.
    Returns: SQL expression; equal for equal rows only. Engines: DuckDB, Spark (no map columns:
    Spark cannot order them). The engines place a NULL inside a row differently (DuckDB last, Spark
    first), so give an order_by that leaves no ties where both must choose the same row.
    Example: order by changed_at, {{ lakebed.whole_row('_row') }} -#}
{% macro whole_row(alias) %}
    {{- return(adapter.dispatch('whole_row', 'lakebed')(alias)) -}}
{% endmacro %}

{% macro duckdb__whole_row(alias) -%} {{ alias }} {%- endmacro %}
{% macro spark__whole_row(alias) -%} struct({{ alias }}.*) {%- endmacro %}
