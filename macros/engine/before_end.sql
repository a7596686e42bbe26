{#- Whether a time is before an end, which is open when NULL. In a join's condition.
    Arguments: time, end, SQL expressions, date or timestamp. Returns: SQL condition.
    Engines: DuckDB, Spark. -#}
{% macro before_end(time, end) %}
    {{- return(adapter.dispatch('before_end', 'lakebed')(time, end)) -}}
{% endmacro %}

{#- With an `or` in the condition DuckDB 1.5 makes a left join by comparing all rows with all. -#}
{% macro duckdb__before_end(time, end) -%}
    {{ time }} < coalesce({{ end }}, timestamp 'infinity')
{%- endmacro %}

{% macro spark__before_end(time, end) -%}
    ({{ time }} < {{ end }} or {{ end }} is null)
{%- endmacro %}
