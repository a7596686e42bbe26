{#- As many rows (of each group) as another table, times a factor. -#}
{% test expect_table_row_count_to_equal_other_table_times_factor(model, compare_model, factor, group_by=none, compare_group_by=none, row_condition=none, compare_row_condition=none) %}
    {{ lakebed.aggregates_differing(model, 'count(*)', compare_model, 'count(*) * ' ~ factor, group_by, compare_group_by, row_condition, compare_row_condition) }}
{% endtest %}
