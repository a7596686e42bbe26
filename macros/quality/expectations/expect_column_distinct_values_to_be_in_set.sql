{#- Generic test: all distinct values are of a set. NULL fails unless the set has a null. Arguments:
    column_name, value_set, quote_values, row_condition (see _expectations.yml). Returns: what
    breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_distinct_values_to_be_in_set: {arguments: {value_set: [a, b]}} -#}
{% test expect_column_distinct_values_to_be_in_set(
    model,
    column_name,
    value_set,
    quote_values=true,
    row_condition=none
) %}
    select distinct {{ column_name }} as value_field
    from {{ model }}
    where not {{ lakebed.expectation_in_set(column_name, value_set, quote_values) }}
        {%- if row_condition %} and ({{ row_condition }}){% endif %}
{% endtest %}
