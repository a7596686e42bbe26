{#- Rows that a kept table has and a new result has not, as deletes for the strategy `upsert`: the last
    part of a model that makes some of its keys anew (join_changes, scd2_incremental).
    Arguments: held, a CTE with the table's rows of those keys; made, one with their new rows; keys, a
    list of columns, the first without NULLs; columns, a list: what to take.
    Returns: a select of columns, _batch_id and _is_deleted. Engines: DuckDB, Spark.
    Example: {{ lakebed.rows_gone('held', 'versions', ['version_key'], ['version_key', 'name']) }} -#}
{% macro rows_gone(held, made, keys, columns) %}
select
    {%- for column in columns %}
    {{ held }}.{{ column }},
    {%- endfor %}
    {{ held }}._batch_id,
    true as _is_deleted
from {{ held }}
left join {{ made }} on {% for key in keys %}{{ held }}.{{ key }} is not distinct from {{ made }}.{{ key }}{{ ' and ' if not loop.last }}{% endfor %}
where {{ made }}.{{ keys[0] }} is null
{% endmacro %}
