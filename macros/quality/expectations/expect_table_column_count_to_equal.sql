{#- The number of columns. -#}
{% test expect_table_column_count_to_equal(model, value) %}
    {%- set count = lakebed.column_names(model, none) | length %}
    {{ lakebed.offences([count ~ ' columns'] if execute and count != value else []) }}
{% endtest %}
