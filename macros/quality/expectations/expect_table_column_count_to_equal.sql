{#- Generic test: the number of columns is a given one. Arguments: value (see _expectations.yml).
    Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_table_column_count_to_equal: {arguments: {value: 3}} -#}
{% test expect_table_column_count_to_equal(model, value) %}
    {%- set count = adapter.get_columns_in_relation(model) | length if execute else 0 -%}
    select * from (select {{ count }} as observed) as counted
    where observed <> {{ value }}
{% endtest %}
