{#- The sample standard deviation (of each group) is within bounds. -#}
{% test expect_column_stdev_to_be_between(model, column_name, min_value=none, max_value=none, group_by=none, row_condition=none, strictly=false) %}
    {{ lakebed.groups_breaking(model, lakebed.between('stddev_samp(' ~ column_name ~ ')', min_value, max_value, strictly), group_by, row_condition) }}
{% endtest %}
