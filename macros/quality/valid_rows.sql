{#- The rows of checked_rows that break no rule. Arguments: checked, a relation or CTE.
    Returns: a select of checked without broken_rules. Engines: DuckDB, Spark. -#}
{% macro valid_rows(checked) %}
select {{ lakebed.star_except(['broken_rules']) }} from {{ checked }}
where broken_rules is null
{% endmacro %}
