{#- Column A is greater than column B in every row (or equal); a row with a NULL passes. -#}
{% test expect_column_pair_values_A_to_be_greater_than_B(model, column_A, column_B, or_equal=false, row_condition=none) %}
    {{ lakebed.rows_breaking(model, column_A ~ ' >' ~ ('= ' if or_equal else ' ') ~ column_B, row_condition) }}
{% endtest %}
