{#- Both columns are equal in every row; a row with a NULL passes. -#}
{% test expect_column_pair_values_to_be_equal(model, column_A, column_B, row_condition=none) %}
    {{ lakebed.rows_breaking(model, column_A ~ ' = ' ~ column_B, row_condition) }}
{% endtest %}
