{#- A field of a JSON object as text: a text without its quotes, a number or truth as it is written. NULL
    when it is not there, is JSON's null, or this is no JSON.
    Arguments: json, a SQL expression of type string; path, a list of names from the outside in
    (a string is one), letters, digits and _.
    Returns: SQL expression. Engines: DuckDB, Spark.
    Example: {{ lakebed.json_text('_record', ['source', 'lsn']) }} -#}
{% macro json_text(json, path) %}
    {%- set path = [path] if path is string else path -%}
    {%- for name in path if not modules.re.fullmatch('[A-Za-z_][A-Za-z0-9_]*', name) -%}
        {{ exceptions.raise_compiler_error("Lakebed: json_text takes names of letters, digits and _, not '" ~ name ~ "'.") }}
    {%- endfor -%}
    {{- return(adapter.dispatch('json_text', 'lakebed')(json, path)) -}}
{% endmacro %}

{% macro duckdb__json_text(json, path) -%}
    case when json_valid({{ json }}) then json_extract_string({{ json }}, '$.{{ path | join('.') }}') end
{%- endmacro %}

{% macro spark__json_text(json, path) -%}
    get_json_object({{ json }}, '$.{{ path | join('.') }}')
{%- endmacro %}
