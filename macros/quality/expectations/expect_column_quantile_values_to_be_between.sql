{#- A quantile (0 to 1, interpolated) of the column (in each group) is within bounds. -#}
{% test expect_column_quantile_values_to_be_between(model, column_name, quantile, min_value=none, max_value=none, group_by=none, row_condition=none, strictly=false) %}
    {{ lakebed.groups_breaking(model, lakebed.between(lakebed.quantile(column_name, quantile), min_value, max_value, strictly), group_by, row_condition) }}
{% endtest %}
