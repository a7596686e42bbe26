{#- The rows whose key this incremental model does not hold yet: what is first stays.
    Arguments: relation, a relation or CTE with one row a key; keys, a list of names, none NULL;
    event_time, one of the keys, a time: only rows of the model are read that are not older than the
    oldest new one, so that the cost does not follow history (none: all are).
    Returns: a select of relation. Engines: DuckDB, Spark.
    Example: {{ lakebed.rows_not_held('first_received', ['order_id']) }} -#}
{% macro rows_not_held(relation, keys, event_time=none) %}
{%- if event_time and event_time not in keys -%}
    {{ exceptions.raise_compiler_error("Lakebed: rows_not_held: event_time '" ~ event_time ~ "' must be one of the keys " ~ keys | join(', ') ~ "; a row that came with another time would be held twice.") }}
{%- endif -%}
select candidate.*
from {{ relation }} as candidate
{%- if is_incremental() %}
left join (
    select {{ keys | join(', ') }} from {{ this }}
    {%- if event_time %}
    {#- Not in the join's condition, where Spark takes no value of a relation that is computed once. #}
    where {{ event_time }} >= (select min({{ event_time }}) from {{ relation }})
    {%- endif %}
) as held
    on {% for key in keys %}candidate.{{ key }} = held.{{ key }}{{ " and " if not loop.last }}{% endfor %}
where held.{{ keys[0] }} is null
{%- endif %}
{% endmacro %}
