{#- SCD 6 from SCD 2: beside each historical value its current and its previous one.
    Arguments: relation (or CTE) with valid_from; keys, tracked: lists of names.
    Returns: a select of all columns of relation and, for each tracked column, <column>_current
    (of the newest version) and <column>_previous (of the version before, NULL in the first).
    Engines: DuckDB, Spark.
    Example: {{ lakebed.scd6(ref('dim_households'), ['household_id'], ['segment']) }} -#}
{% macro scd6(relation, keys, tracked, valid_from='valid_from') %}
select
    *,
    {%- for column in tracked %}
    first_value({{ column }}) over (partition by {{ keys | join(', ') }} order by {{ valid_from }} desc) as {{ column }}_current,
    lag({{ column }}) over (partition by {{ keys | join(', ') }} order by {{ valid_from }}) as {{ column }}_previous
    {{- ',' if not loop.last }}
    {%- endfor %}
from {{ relation }}
{% endmacro %}
