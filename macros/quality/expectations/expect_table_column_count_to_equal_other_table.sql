{#- Generic test: two tables have the same number of columns. Arguments: compare_model (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_table_column_count_to_equal_other_table: {arguments: {compare_model: ref('other')}} -#}
{% test expect_table_column_count_to_equal_other_table(model, compare_model) %}
    {%- set count = adapter.get_columns_in_relation(model) | length if execute else 0 -%}
    {%- set other = adapter.get_columns_in_relation(compare_model) | length if execute else 0 -%}
    select * from (select {{ count }} as observed, {{ other }} as expected) as counted
    where observed <> expected
{% endtest %}
