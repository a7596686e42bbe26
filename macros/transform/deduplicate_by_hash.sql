{#- Drops exact duplicates: one row of those that are equal in some columns, or in all. NULLs are
    equal to each other here: two lines that look the same are the same line.
    Arguments: relation, a relation or the name of a CTE; columns, a list of names (none: all, also
    where nobody can name them, as in a CTE); order_by, a SQL ordering or a list: which of them
    stays (none: the first by all columns); where, an optional condition.
    Returns: a select of the relation's columns. Engines: DuckDB, Spark.
    Example: {{ lakebed.deduplicate_by_hash('lines', ['_record'], '_batch_id, _line') }} -#}
{% macro deduplicate_by_hash(relation, columns=none, order_by=none, where=none) %}
{{ lakebed.deduplicate(relation, [lakebed.row_hash('_row', columns)], order_by, where, 'group') }}
{% endmacro %}
