{#- The share of different values among the values (of each group) is within bounds. -#}
{% test expect_column_proportion_of_unique_values_to_be_between(model, column_name, min_value=none, max_value=none, group_by=none, row_condition=none, strictly=false) %}
    {{ lakebed.groups_breaking(model, lakebed.between('count(distinct ' ~ column_name ~ ') * 1.0 / nullif(count(' ~ column_name ~ '), 0)', min_value, max_value, strictly), group_by, row_condition) }}
{% endtest %}
