{#- The key of a day in dim_dates, yyyymmdd; -1 (the unknown day) for NULL.
    Arguments: expression, a date or timestamp. Returns: SQL expression of type int. -#}
{% macro date_key(expression) -%}
    coalesce(cast(year({{ expression }}) * 10000 + month({{ expression }}) * 100 + day({{ expression }}) as int), -1)
{%- endmacro %}
