{#- The run's clock: a UTC timestamp literal.
    `var('as_of')` when given (a replay, a test), else the moment dbt started.
    Nothing else in the project may ask what time it is, so that a replay gives the
    same rows.
    Returns: SQL expression of type timestamp. Engines: DuckDB, Spark.
    Example: select {{ lakebed.as_of() }} as ingested_at -#}
{% macro as_of() -%}
    cast('{{ lakebed.as_of_text() }}' as timestamp)
{%- endmacro %}

{#- The same as text, YYYY-MM-DD HH:MM:SS. -#}
{% macro as_of_text() -%}
    {%- set given = var('as_of', '') | string | trim | replace('T', ' ') | replace('Z', '') -%}
    {{- return(given or run_started_at.astimezone(modules.pytz.utc).strftime('%Y-%m-%d %H:%M:%S.%f')) -}}
{%- endmacro %}
