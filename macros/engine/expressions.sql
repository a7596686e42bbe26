{#- A string as a SQL literal, whatever is in it. Engines: DuckDB, Spark (a backslash is doubled). -#}
{% macro string_literal(text) %}
    {{- return(adapter.dispatch('string_literal', 'lakebed')(text | string)) -}}
{% endmacro %}
{% macro duckdb__string_literal(text) %}{{- return("'" ~ text | replace("'", "''") ~ "'") -}}{% endmacro %}
{% macro spark__string_literal(text) %}{{- return("'" ~ text | replace('\\', '\\\\') | replace("'", "\\'") ~ "'") -}}{% endmacro %}

{#- A condition: the expression matches the regular expression somewhere. Flags as in Perl: i, m, s.
    Engines: DuckDB (RE2), Spark (Java); use what both know. -#}
{% macro regex_matches(expression, regex, flags='') %}
    {{- return(adapter.dispatch('regex_matches', 'lakebed')(expression, regex, flags)) -}}
{% endmacro %}
{% macro default__regex_matches(expression, regex, flags) %}
    {%- set pattern = ('(?' ~ flags ~ ')' if flags else '') ~ regex -%}
    {{- return('regexp_matches(' ~ expression ~ ', ' ~ lakebed.string_literal(pattern) ~ ')') -}}
{% endmacro %}
{% macro spark__regex_matches(expression, regex, flags) %}
    {%- set pattern = ('(?' ~ flags ~ ')' if flags else '') ~ regex -%}
    {{- return('regexp_like(' ~ expression ~ ', ' ~ lakebed.string_literal(pattern) ~ ')') -}}
{% endmacro %}

{#- A condition: the expression is LIKE the pattern; a backslash escapes % and _. -#}
{% macro like(expression, pattern) %}
    {{- return(adapter.dispatch('like', 'lakebed')(expression, pattern)) -}}
{% endmacro %}
{% macro duckdb__like(expression, pattern) %}{{- return(expression ~ ' like ' ~ lakebed.string_literal(pattern) ~ " escape '\\'") -}}{% endmacro %}
{% macro spark__like(expression, pattern) %}{{- return(expression ~ ' like ' ~ lakebed.string_literal(pattern)) -}}{% endmacro %}

{#- An interpolated quantile, an aggregate. Arguments: share, 0 to 1. -#}
{% macro quantile(expression, share) %}
    {{- return(adapter.dispatch('quantile', 'lakebed')(expression, share)) -}}
{% endmacro %}
{% macro duckdb__quantile(expression, share) %}{{- return('quantile_cont(' ~ expression ~ ', ' ~ share ~ ')') -}}{% endmacro %}
{% macro spark__quantile(expression, share) %}{{- return('percentile(' ~ expression ~ ', ' ~ share ~ ')') -}}{% endmacro %}

{#- One row a step from first to last, both included.
    Arguments: bounds, a CTE of one row; first, last: its timestamp columns; part, step.
    Returns: a select of period_start (timestamp). -#}
{% macro period_spine(bounds, first, last, part, step) %}
    {{- return(adapter.dispatch('period_spine', 'lakebed')(bounds, first, last, part, step)) -}}
{% endmacro %}
{% macro duckdb__period_spine(bounds, first, last, part, step) %}
select unnest(generate_series({{ first }}, {{ last }}, interval '{{ step }} {{ part }}')) as period_start
from {{ bounds }}
{% endmacro %}
{% macro spark__period_spine(bounds, first, last, part, step) %}
select explode(sequence({{ first }}, {{ last }}, interval {{ step }} {{ part }})) as period_start
from {{ bounds }}
{% endmacro %}
