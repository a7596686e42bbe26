{#- Generic test: the table has these columns and no others, in any order. Arguments: column_list,
    transform (see _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB,
    Spark.
    Example: lakebed.expect_table_columns_to_match_set: {arguments: {column_list: [id]}} -#}
{% test expect_table_columns_to_match_set(model, column_list, transform='upper') %}
    {%- set names = lakebed.expectation_columns(model, transform) -%}
    {%- set wanted = column_list | map(transform) | list -%}
    {%- set wrong = (wanted | reject('in', names) | list) + (names | reject('in', wanted) | list) -%}
    {{ lakebed.expectation_names(wrong, 'unmatched_column') }}
{% endtest %}
