{#- Generic test: the sums of several columns add up to a total. NULLs are ignored; without a value
    it passes. Arguments: column_list, sum_total, group_by, row_condition (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_multicolumn_sum_to_equal: {arguments: {column_list: [net, tax], sum_total: gross}} -#}
{% test expect_multicolumn_sum_to_equal(model, column_list, sum_total, group_by=none, row_condition=none) %}
    {%- set difference -%}
        sum({{ column_list | join(') + sum(') }}) - {{ sum_total if sum_total is number else 'sum(' ~ sum_total ~ ')' }}
    {%- endset -%}
    {{ lakebed.expectation_groups(model, difference, 'observed = 0', group_by, row_condition) }}
{% endtest %}
