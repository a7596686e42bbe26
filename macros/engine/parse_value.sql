{#- Text to a typed value, NULL when it is not one. What counts as one is said here, by a pattern, so
    that it is the same on every engine: their own casts also take '1_000', '12:30', 'today' or 'NaN',
    each its own. Surrounding spaces are not part of a value: trim before.
    Arguments: text, a SQL expression; data_type, as in a contract; formats, of dates and timestamps
    what is tried after ISO 8601: strftime patterns (%Y %m %d %H %M %S), or epoch_days, epoch_ms,
    epoch_us, which are whole numbers since 1970.
    Returns: SQL expression of data_type. Engines: DuckDB, Spark.
    Whole numbers must be written as such ('3.7' is no bigint), decimals are rounded half up to
    their scale, timestamps are UTC (an offset is applied) in the years 0001 to 9999, truth is true,
    t, yes, y, 1 or the opposite.
    Example: {{ lakebed.parse_value('raw', 'timestamp', ['%m/%d/%Y %H:%M:%S']) }} -#}
{% macro parse_value(text, data_type, formats=[]) %}
    {%- set date = '(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])' -%}
    {%- set hour = '(?:[01][0-9]|2[0-3])' -%}
    {%- set time = hour ~ ':[0-5][0-9](?::[0-5][0-9](?:[.][0-9]{1,6})?)?' -%}
    {%- if data_type in ['string', 'varchar', 'text'] -%}
        {{- return(text) -}}
    {%- elif data_type in ['tinyint', 'smallint', 'int', 'integer', 'bigint'] -%}
        {{- return(lakebed.guarded_cast(text, '[+-]?[0-9]+', data_type)) -}}
    {%- elif data_type.startswith('decimal') or data_type in ['double', 'float'] -%}
        {{- return(adapter.dispatch('parse_number', 'lakebed')(text, data_type)) -}}
    {%- elif data_type == 'boolean' -%}
        {%- set lower = 'lower(' ~ text ~ ')' -%}
        {{- return('case when ' ~ lower ~ " in ('true', 't', 'yes', 'y', '1') then true when " ~ lower ~ " in ('false', 'f', 'no', 'n', '0') then false end") -}}
    {%- elif data_type == 'date' -%}
        {#- Programs write days as moments, too: the time is left out. -#}
        {%- set iso = lakebed.guarded_cast(text, date ~ '(?:[ T]' ~ time ~ ')?', data_type, 'substring(' ~ text ~ ', 1, 10)') -%}
        {{- return(lakebed.parse_formatted(text, data_type, iso, formats)) -}}
    {%- elif data_type == 'timestamp' -%}
        {%- set iso = date ~ '(?:[ T]' ~ time ~ '(?:Z|[+-]' ~ '(?:0[0-9]|1[0-4])' ~ ':[0-5][0-9])?)?' -%}
        {{- return(lakebed.parse_formatted(text, data_type, adapter.dispatch('parse_moment', 'lakebed')(text, iso), formats)) -}}
    {%- endif -%}
    {{- return('try_cast(' ~ text ~ ' as ' ~ data_type ~ ')') -}}
{% endmacro %}

{#- A cast of texts that match the whole of a pattern; of a part of them when it is given. -#}
{% macro guarded_cast(text, pattern, data_type, part=none) -%}
    case when {{ lakebed.matches_regex(text, '^(?:' ~ pattern ~ ')\\z') }} then try_cast({{ part or text }} as {{ data_type }}) end
{%- endmacro %}

{#- DuckDB's own cast leaves out the offset. -#}
{% macro duckdb__parse_moment(text, pattern) -%}
    case
        when {{ lakebed.matches_regex(text, '[+-][0-9]{2}:[0-9]{2}\\z') }}
            then make_timestamp(epoch_us({{ lakebed.guarded_cast(text, pattern, 'timestamptz') }}))
        else {{ lakebed.guarded_cast(text, pattern, 'timestamp') }}
    end
{%- endmacro %}

{% macro spark__parse_moment(text, pattern) -%}
    {{ lakebed.guarded_cast(text, pattern, 'timestamp') }}
{%- endmacro %}

{#- `iso`, or the first format that the text is written in; months, days and times may lack a zero. -#}
{% macro parse_formatted(text, data_type, iso, formats) -%}
    {%- if not formats -%}{{- return(iso) -}}{%- endif -%}
    coalesce(
        {{ iso }}
        {%- for format in formats if format in lakebed.epochs() %}
        , {{ lakebed.parse_epoch(text, data_type, lakebed.epochs()[format]) }}
        {%- endfor %}
        {%- for format in formats if format not in lakebed.epochs() -%}
            {%- set ns = namespace(pattern=modules.re.escape(format)) -%}
            {%- for code in ['%m', '%d', '%H', '%M', '%S'] %}{% set ns.pattern = ns.pattern | replace(code, '[0-9]{1,2}') %}{% endfor -%}
            {%- set ns.pattern = ns.pattern | replace('%Y', '[0-9]{4}') | replace('\\ ', ' ') | replace('\\/', '/') | replace('\\-', '-') -%}
        , case when {{ lakebed.matches_regex(text, '^(?:' ~ ns.pattern ~ ')\\z') }} then {{ adapter.dispatch('parse_format', 'lakebed')(text, data_type, format) }} end
        {%- endfor %}
    )
{%- endmacro %}

{#- Microseconds in one of them. -#}
{% macro epochs() -%}{{ return({'epoch_days': 86400000000, 'epoch_ms': 1000, 'epoch_us': 1}) }}{%- endmacro %}

{#- Of the years 0001 to 9999, as elsewhere. -#}
{% macro parse_epoch(text, data_type, micros) -%}
    {%- set number = lakebed.guarded_cast(text, '[+-]?[0-9]{1,18}', 'bigint') -%}
    case
        when {{ number }} between {{ -62135596800000000 // micros }} and {{ 253402300799999999 // micros }}
            then cast({{ lakebed.from_epoch_micros(number ~ ' * ' ~ micros) }} as {{ data_type }})
    end
{%- endmacro %}

{% macro duckdb__parse_format(text, data_type, format) -%}
    try_cast(try_strptime({{ text }}, '{{ format }}') as {{ data_type }})
{%- endmacro %}

{% macro spark__parse_format(text, data_type, format) -%}
    {%- set ns = namespace(format=format) -%}
    {%- for code, java in {'%Y': 'yyyy', '%m': 'M', '%d': 'd', '%H': 'H', '%M': 'm', '%S': 's'}.items() -%}
        {%- set ns.format = ns.format | replace(code, java) -%}
    {%- endfor -%}
    cast(try_to_timestamp({{ text }}, '{{ ns.format }}') as {{ data_type }})
{%- endmacro %}

{#- With an exponent a decimal goes by way of double and of a text with more digits than its scale:
    DuckDB 1.5 reads '5.55e-17' as 0.01, and engines round a double to a decimal differently. -#}
{% macro duckdb__parse_number(text, data_type) -%}
    {{- lakebed.parse_number_with(text, data_type, "printf('%.10f', try_cast(" ~ text ~ " as double))") -}}
{%- endmacro %}

{% macro spark__parse_number(text, data_type) -%}
    {{- lakebed.parse_number_with(text, data_type, "format_string('%.10f', try_cast(" ~ text ~ " as double))") -}}
{%- endmacro %}

{% macro parse_number_with(text, data_type, plain) -%}
    {%- set digits = '[+-]?(?:[0-9]+[.]?[0-9]*|[.][0-9]+)' -%}
    {%- set exponent = '[eE][+-]?[0-9]{1,3}' -%}
    {%- if data_type.startswith('decimal') -%}
    case
        when {{ lakebed.matches_regex(text, '^' ~ digits ~ '\\z') }} then try_cast({{ text }} as {{ data_type }})
        when {{ lakebed.matches_regex(text, '^' ~ digits ~ exponent ~ '\\z') }} then try_cast({{ plain }} as {{ data_type }})
    end
    {%- else -%}
    {{ lakebed.guarded_cast(text, digits ~ '(?:' ~ exponent ~ ')?', data_type) }}
    {%- endif -%}
{%- endmacro %}
