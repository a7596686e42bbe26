{#- Generic test: the table has none of these columns. Arguments: column_list, transform (see
    _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_table_columns_to_not_contain_set: {arguments: {column_list: [id]}} -#}
{% test expect_table_columns_to_not_contain_set(model, column_list, transform='upper') %}
    {%- set names = lakebed.expectation_columns(model, transform) -%}
    {%- set wanted = column_list | map(transform) | list -%}
    {{ lakebed.expectation_names(wanted | select('in', names) | list, 'unwanted_column') }}
{% endtest %}
