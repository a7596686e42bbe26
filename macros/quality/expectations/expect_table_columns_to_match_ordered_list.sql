{#- Generic test: the table has these columns and no others, in this order. Arguments: column_list,
    transform (see _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB,
    Spark.
    Example: lakebed.expect_table_columns_to_match_ordered_list: {arguments: {column_list: [id]}} -#}
{% test expect_table_columns_to_match_ordered_list(model, column_list, transform='upper') %}
    {%- set names = lakebed.expectation_columns(model, transform) -%}
    {%- set wanted = column_list | map(transform) | list -%}
    {%- set wrong = [] -%}
    {%- for place in range([names | length, wanted | length] | max) -%}
        {%- if names[place:place + 1] != wanted[place:place + 1] -%}
            {%- do wrong.append((place + 1) ~ ': ' ~ names[place:place + 1] | join) -%}
        {%- endif -%}
    {%- endfor -%}
    {{ lakebed.expectation_names(wrong if execute else [], 'unmatched_column') }}
{% endtest %}
