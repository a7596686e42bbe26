{#- The number of different values (in each group) is above `value`. -#}
{% test expect_column_distinct_count_to_be_greater_than(model, column_name, value, quote_values=false, group_by=none, row_condition=none) %}
    {{ lakebed.groups_breaking(model, 'count(distinct ' ~ column_name ~ ') > ' ~ value, group_by, row_condition) }}
{% endtest %}
