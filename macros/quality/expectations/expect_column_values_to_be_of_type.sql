{#- Generic test: the column has a type. A column that isn't there fails. Arguments: column_name,
    column_type (see _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB,
    Spark.
    Example: lakebed.expect_column_values_to_be_of_type: {arguments: {column_type: date}} -#}
{% test expect_column_values_to_be_of_type(model, column_name, column_type) %}
    {{ lakebed.test_expect_column_values_to_be_in_type_list(model, column_name, [column_type]) }}
{% endtest %}
