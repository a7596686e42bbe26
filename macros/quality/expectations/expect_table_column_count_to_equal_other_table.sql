{#- As many columns as another table. -#}
{% test expect_table_column_count_to_equal_other_table(model, compare_model) %}
    {%- set count = lakebed.column_names(model, none) | length -%}
    {%- set other = lakebed.column_names(compare_model, none) | length %}
    {{ lakebed.offences([count ~ ' columns, the other ' ~ other] if execute and count != other else []) }}
{% endtest %}
