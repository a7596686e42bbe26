{#- A statement that fails, and its transaction with it, when a query has rows.
    Arguments: query, a select; message, what the error says. Engines: DuckDB, Spark. -#}
{% macro fail_if(query, message) %}
    {{- return(adapter.dispatch('fail_if', 'lakebed')(query, message)) -}}
{% endmacro %}

{% macro duckdb__fail_if(query, message) -%}
    select case when exists ({{ query }}) then error({{ lakebed.text_literal(message) }}) end
{%- endmacro %}

{% macro spark__fail_if(query, message) -%}
    select case when exists ({{ query }}) then raise_error({{ lakebed.text_literal(message) }}) end
{%- endmacro %}
