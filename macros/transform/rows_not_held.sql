{#- The rows whose key this incremental model does not hold yet: what is first stays.
    Arguments: relation, a relation or CTE with one row a key; keys, a list of names, none NULL.
    Returns: a select of relation. Engines: DuckDB, Spark.
    Example: {{ lakebed.rows_not_held('first_received', ['order_id']) }} -#}
{% macro rows_not_held(relation, keys) %}
select candidate.*
from {{ relation }} as candidate
{%- if is_incremental() %}
left join {{ this }} as held
    on {% for key in keys %}candidate.{{ key }} = held.{{ key }}{{ " and " if not loop.last }}{% endfor %}
where held.{{ keys[0] }} is null
{%- endif %}
{% endmacro %}
