{#- The number of columns is within bounds, both included. -#}
{% test expect_table_column_count_to_be_between(model, min_value=none, max_value=none) %}
    {%- set count = lakebed.column_names(model, none) | length %}
    {{ lakebed.offences([count ~ ' columns'] if execute and ((min_value is not none and count < min_value) or (max_value is not none and count > max_value)) else []) }}
{% endtest %}
