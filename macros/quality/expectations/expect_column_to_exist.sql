{#- Generic test: the table has the column (at its place). Arguments: column_name, column_index,
    transform (see _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB,
    Spark.
    Example: lakebed.expect_column_to_exist: {arguments: {column_index: 1}} -#}
{% test expect_column_to_exist(model, column_name, column_index=none, transform='upper') %}
    {%- set names = lakebed.expectation_columns(model, transform) -%}
    {%- set wanted = [column_name] | map(transform) | first -%}
    {%- set place = names.index(wanted) + 1 if wanted in names else 0 -%}
    {%- set holds = place > 0 and (not column_index or place == column_index) -%}
    {{ lakebed.expectation_names([] if holds else [wanted], 'missing_column') }}
{% endtest %}
