{#- The number of rows (of each group). -#}
{% test expect_table_row_count_to_equal(model, value, group_by=none, row_condition=none) %}
    {{ lakebed.groups_breaking(model, 'count(*) = ' ~ value, group_by, row_condition) }}
{% endtest %}
