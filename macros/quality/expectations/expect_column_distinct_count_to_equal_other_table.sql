{#- As many different values as a column of another table. -#}
{% test expect_column_distinct_count_to_equal_other_table(model, column_name, compare_model, compare_column_name, row_condition=none, compare_row_condition=none) %}
    {{ lakebed.aggregates_differing(model, 'count(distinct ' ~ column_name ~ ')', compare_model, 'count(distinct ' ~ compare_column_name ~ ')', none, none, row_condition, compare_row_condition) }}
{% endtest %}
