{#- One row a day. Arguments: first, last: ISO dates, both included.
    Returns: a select of date_day (date). Engines: DuckDB, Spark. -#}
{% macro date_spine(first, last) %}
    {{- return(adapter.dispatch('date_spine', 'lakebed')(first, last)) -}}
{% endmacro %}

{% macro duckdb__date_spine(first, last) %}
select cast(day as date) as date_day
from unnest(generate_series(date '{{ first }}', date '{{ last }}', interval 1 day)) as days (day)
{% endmacro %}

{% macro spark__date_spine(first, last) %}
select explode(sequence(date '{{ first }}', date '{{ last }}', interval 1 day)) as date_day
{% endmacro %}

{#- English name of a date's weekday and month. Engines: DuckDB, Spark. -#}
{% macro day_name(date) %}{{- return(adapter.dispatch('day_name', 'lakebed')(date)) -}}{% endmacro %}
{% macro duckdb__day_name(date) -%} dayname({{ date }}) {%- endmacro %}
{% macro spark__day_name(date) -%} date_format({{ date }}, 'EEEE') {%- endmacro %}

{% macro month_name(date) %}{{- return(adapter.dispatch('month_name', 'lakebed')(date)) -}}{% endmacro %}
{% macro duckdb__month_name(date) -%} monthname({{ date }}) {%- endmacro %}
{% macro spark__month_name(date) -%} date_format({{ date }}, 'MMMM') {%- endmacro %}

{#- ISO 8601 weekday, 1 = Monday. Engines: DuckDB, Spark. -#}
{% macro iso_weekday(date) %}{{- return(adapter.dispatch('iso_weekday', 'lakebed')(date)) -}}{% endmacro %}
{% macro duckdb__iso_weekday(date) -%} cast(isodow({{ date }}) as int) {%- endmacro %}
{% macro spark__iso_weekday(date) -%} (weekday({{ date }}) + 1) {%- endmacro %}
