{#- Generic test: the number of distinct values, NULL not counted, is equal to a value. Arguments:
    column_name, value, group_by, row_condition (see _expectations.yml). Returns: what breaks
    it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_distinct_count_to_equal: {arguments: {value: 3}} -#}
{% test expect_column_distinct_count_to_equal(model, column_name, value, group_by=none, row_condition=none) %}
    {{ lakebed.expectation_groups(
        model, 'count(distinct ' ~ column_name ~ ')', 'observed = ' ~ value, group_by, row_condition
    ) }}
{% endtest %}
