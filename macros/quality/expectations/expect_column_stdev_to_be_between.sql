{#- Generic test: the sample standard deviation is between two bounds; one value has none and
    passes. NULLs are ignored; no value at all passes. Arguments: column_name, min_value,
    max_value, group_by, row_condition, strictly (see _expectations.yml). Returns: what breaks
    it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_stdev_to_be_between: {arguments: {min_value: 0, max_value: 100}} -#}
{% test expect_column_stdev_to_be_between(
    model,
    column_name,
    min_value=none,
    max_value=none,
    group_by=none,
    row_condition=none,
    strictly=false
) %}
    {%- set holds = lakebed.expectation_bounds('observed', min_value, max_value, strictly) -%}
    {{ lakebed.expectation_groups(model, 'stddev_samp(' ~ column_name ~ ')', holds, group_by, row_condition) }}
{% endtest %}
