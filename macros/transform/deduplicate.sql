{#- One row per key: the first by order_by. A key with a NULL in it is unknown, so its rows are all
    kept. Engines: DuckDB, Spark. (Provisional: replaced by the tested version.) -#}
{% macro deduplicate(relation, keys, order_by) %}
select {{ lakebed.star_except(['_rank']) }}
from (
    select
        *,
        row_number() over (partition by {{ keys | join(', ') }} order by {{ order_by }}) as _rank
    from {{ relation }}
)
where _rank = 1
{% endmacro %}
