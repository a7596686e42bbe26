{#- The number of rows (of each group) is within bounds. -#}
{% test expect_table_row_count_to_be_between(model, min_value=none, max_value=none, group_by=none, row_condition=none, strictly=false) %}
    {{ lakebed.groups_breaking(model, lakebed.between('count(*)', min_value, max_value, strictly), group_by, row_condition) }}
{% endtest %}
