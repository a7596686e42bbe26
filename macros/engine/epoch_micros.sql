{#- Microseconds since 1970-01-01 UTC, exact. Arguments: expression, a timestamp or date, UTC.
    Returns: SQL expression of type bigint, negative before 1970. Engines: DuckDB, Spark (session
    time zone UTC).
    Example: {{ lakebed.epoch_micros('event_time') }} -#}
{% macro epoch_micros(expression) %}
    {{- return(adapter.dispatch('epoch_micros', 'lakebed')(expression)) -}}
{% endmacro %}

{% macro duckdb__epoch_micros(expression) -%} epoch_us(cast({{ expression }} as timestamp)) {%- endmacro %}
{% macro spark__epoch_micros(expression) -%} unix_micros(cast({{ expression }} as timestamp)) {%- endmacro %}

{#- The opposite: a timestamp from microseconds since 1970 (UTC).
    Example: {{ lakebed.from_epoch_micros('sent_micros') }} -#}
{% macro from_epoch_micros(micros) %}
    {{- return(adapter.dispatch('from_epoch_micros', 'lakebed')(micros)) -}}
{% endmacro %}

{% macro duckdb__from_epoch_micros(micros) -%} make_timestamp({{ micros }}) {%- endmacro %}
{% macro spark__from_epoch_micros(micros) -%} timestamp_micros({{ micros }}) {%- endmacro %}
