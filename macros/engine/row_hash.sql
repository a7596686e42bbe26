{#- Hash of a row: of the named columns, or of all of them. Both forms give the same hash for the same
    columns in the same order. Only for comparing rows within one engine: keys that must
    be the same on every engine are made by surrogate_key.
    Arguments: alias, a table alias; columns, an optional list of names.
    Returns: SQL expression, 32 hexadecimal digits. Engines: DuckDB, Spark.
    Example: {{ lakebed.row_hash('source', ['id', 'name']) }} -#}
{% macro row_hash(alias, columns=none) %}
    {{- return(adapter.dispatch('row_hash', 'lakebed')(alias, columns)) -}}
{% endmacro %}

{% macro duckdb__row_hash(alias, columns) -%}
    {%- if columns -%}
    md5(cast({ {%- for column in columns %}'{{ column }}': {{ alias }}.{{ adapter.quote(column) }}{{ ", " if not loop.last }}{% endfor -%} } as varchar))
    {%- else -%}
    md5(cast({{ alias }} as varchar))
    {%- endif -%}
{%- endmacro %}

{% macro spark__row_hash(alias, columns) -%}
    {%- set fields = [] -%}
    {%- for column in columns or [] -%}{%- do fields.append(alias ~ '.' ~ adapter.quote(column)) -%}{%- endfor -%}
    md5(to_json(struct({{ fields | join(', ') or alias ~ '.*' }}), map('ignoreNullFields', 'false')))
{%- endmacro %}
