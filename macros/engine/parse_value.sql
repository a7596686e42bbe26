{#- Text to a typed value, NULL when it is not one.
    Arguments: text, a SQL expression; data_type, as in a contract; formats, a list of strftime
    patterns tried after ISO 8601 (dates and timestamps).
    Returns: SQL expression of data_type. Engines: DuckDB, Spark.
    Whole numbers must be written as such ('3.7' is no bigint), decimals are rounded half up to
    their scale, timestamps are UTC.
    Example: {{ lakebed.parse_value('raw', 'timestamp', ['%m/%d/%Y %H:%M:%S']) }} -#}
{% macro parse_value(text, data_type, formats=[]) %}
    {%- if data_type in ['string', 'varchar', 'text'] -%}
        {{- return(text) -}}
    {%- endif -%}
    {{- return(adapter.dispatch('parse_value', 'lakebed')(text, data_type, formats)) -}}
{% endmacro %}

{% macro duckdb__parse_value(text, data_type, formats) -%}
    {%- if data_type in ['tinyint', 'smallint', 'int', 'integer', 'bigint'] -%}
        case when regexp_full_match({{ text }}, '[+-]?[0-9]+') then try_cast({{ text }} as {{ data_type }}) end
    {%- elif data_type.startswith('decimal') -%}
        {#- DuckDB 1.5 reads '5.55e-17' as 0.01: text with an exponent goes by way of double. -#}
        case
            when contains(lower({{ text }}), 'e') then try_cast(try_cast({{ text }} as double) as {{ data_type }})
            else try_cast({{ text }} as {{ data_type }})
        end
    {%- elif data_type in ['date', 'timestamp'] and formats -%}
        coalesce(
            try_cast({{ text }} as {{ data_type }})
            {%- for format in formats %}, try_cast(try_strptime({{ text }}, '{{ format }}') as {{ data_type }}){% endfor -%}
        )
    {%- else -%}
        try_cast({{ text }} as {{ data_type }})
    {%- endif -%}
{%- endmacro %}

{% macro spark__parse_value(text, data_type, formats) -%}
    {%- if data_type in ['tinyint', 'smallint', 'int', 'integer', 'bigint'] -%}
        case when {{ text }} rlike r'^[+-]?[0-9]+$' then try_cast({{ text }} as {{ data_type }}) end
    {%- elif data_type in ['date', 'timestamp'] and formats -%}
        {%- set java = {'%Y': 'yyyy', '%m': 'MM', '%d': 'dd', '%H': 'HH', '%M': 'mm', '%S': 'ss'} -%}
        coalesce(
            try_cast({{ text }} as {{ data_type }})
            {%- for format in formats %}
                {%- set ns = namespace(format=format) -%}
                {%- for key, value in java.items() %}{% set ns.format = ns.format | replace(key, value) %}{% endfor -%}
                , cast(try_to_timestamp({{ text }}, '{{ ns.format }}') as {{ data_type }})
            {%- endfor -%}
        )
    {%- else -%}
        try_cast({{ text }} as {{ data_type }})
    {%- endif -%}
{%- endmacro %}
