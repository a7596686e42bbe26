{#- Slowly changing dimension, type 6: a type 2 dimension that also tells the current and the previous
    value. Each row keeps the value of its time and gains, for each tracked column,
      <column>_current   the value of the key's newest version (type 1). A key that was deleted has no
                         valid version; then it is the last value known;
      <column>_previous  the value before the one this row has (type 3): not that of the version
                         before, which may have changed something else. NULL if there was none.
    Arguments: relation, a relation or the name of a CTE with one row a version; keys, a list of
    columns (a string is one); tracked, a list of columns; valid_from, the column that orders the
    versions, without NULLs or ties within a key.
    Returns: a select of the relation's columns and the new ones. Engines: DuckDB, Spark.
    Example: {{ lakebed.scd6(ref('dim_customers'), ['customer_id'], ['city']) }} -#}
{% macro scd6(relation, keys, tracked, valid_from='valid_from') %}
{%- set key_list = keys if keys is string else keys | join(', ') -%}
{%- set tracked = [tracked] if tracked is string else tracked -%}
{%- set helpers = [] -%}
{%- for column in tracked -%}
    {%- do helpers.extend(['_before_' ~ column, '_starts_' ~ column, '_run_' ~ column]) -%}
{%- endfor -%}
select
    {{ lakebed.star_except(helpers) }}
    {%- for column in tracked %},
    first_value({{ column }}) over (partition by {{ key_list }} order by {{ valid_from }} desc) as {{ column }}_current,
    first_value(_before_{{ column }}) over (
        partition by {{ key_list }}, _run_{{ column }}
        order by {{ valid_from }}
    ) as {{ column }}_previous
    {%- endfor %}
from (
    select
        *
        {%- for column in tracked %},
        sum(_starts_{{ column }}) over (
            partition by {{ key_list }}
            order by {{ valid_from }}
            rows between unbounded preceding and current row
        ) as _run_{{ column }}
        {%- endfor %}
    from (
        select
            *
            {%- for column in tracked %},
            lag({{ column }}) over (partition by {{ key_list }} order by {{ valid_from }}) as _before_{{ column }},
            case
                when (lag({{ column }}) over (partition by {{ key_list }} order by {{ valid_from }}) is distinct from {{ column }}) then 1
                else 0
            end as _starts_{{ column }}
            {%- endfor %}
        from {{ relation }}
    ) as compared
) as runs
{% endmacro %}
