{#- The length of every value, in characters. -#}
{% test expect_column_value_lengths_to_equal(model, column_name, value, row_condition=none) %}
    {{ lakebed.rows_breaking(model, 'length(' ~ column_name ~ ') = ' ~ value, row_condition) }}
{% endtest %}
