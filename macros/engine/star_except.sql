{#- All columns but some. Arguments: columns, a list of names; alias, optional table alias.
    Returns: a select-list item. Engines: DuckDB (`exclude`), Spark 4 (`except`).
    Example: select {{ lakebed.star_except(['row_number']) }} from ranked -#}
{% macro star_except(columns, alias=none) %}
    {{- return(adapter.dispatch('star_except', 'lakebed')(columns, alias)) -}}
{% endmacro %}

{% macro duckdb__star_except(columns, alias) -%}
    {{ alias ~ '.' if alias }}* exclude ({{ columns | join(', ') }})
{%- endmacro %}

{% macro spark__star_except(columns, alias) -%}
    {{ alias ~ '.' if alias }}* except ({{ columns | join(', ') }})
{%- endmacro %}
