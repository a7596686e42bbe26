{#- The length of every value, in characters, is within bounds. -#}
{% test expect_column_value_lengths_to_be_between(model, column_name, min_value=none, max_value=none, row_condition=none, strictly=false) %}
    {{ lakebed.rows_breaking(model, lakebed.between('length(' ~ column_name ~ ')', min_value, max_value, strictly), row_condition) }}
{% endtest %}
