{#- Generic test: the number of rows is a given one, in every group. Arguments: value, group_by,
    row_condition (see _expectations.yml). Returns: what breaks it, one row each. Engines:
    DuckDB, Spark.
    Example: lakebed.expect_table_row_count_to_equal: {arguments: {value: 12}} -#}
{% test expect_table_row_count_to_equal(model, value, group_by=none, row_condition=none) %}
    {{ lakebed.expectation_groups(model, 'count(*)', 'observed = ' ~ value, group_by, row_condition) }}
{% endtest %}
