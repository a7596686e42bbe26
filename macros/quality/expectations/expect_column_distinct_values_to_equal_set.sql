{#- Generic test: the distinct values are those of a set, no more and no less. NULL is one more,
    unless the set has a null. Arguments: column_name, value_set, quote_values, row_condition
    (see _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_distinct_values_to_equal_set: {arguments: {value_set: [a, b]}} -#}
{% test expect_column_distinct_values_to_equal_set(
    model,
    column_name,
    value_set,
    quote_values=true,
    row_condition=none
) %}
    with strange_values as (
        select distinct cast({{ column_name }} as {{ dbt.type_string() }}) as value_field
        from {{ model }}
        where not {{ lakebed.expectation_in_set(column_name, value_set, quote_values) }}
            {%- if row_condition %} and ({{ row_condition }}){% endif %}
    ),

    missing_values as (
        {{ lakebed.expectation_missing_values(model, column_name, value_set, quote_values, row_condition) }}
    )

    select 'not in the set' as reason, value_field from strange_values
    union all
    select 'not in the column' as reason, value_field from missing_values
{% endtest %}
