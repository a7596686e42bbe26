{#- Generic test: no combination of values occurs twice. Rows without a value (or, by
    `ignore_row_if`, with any NULL) are left out; otherwise NULL equals NULL. Arguments:
    column_list, quote_columns, ignore_row_if, row_condition (see _expectations.yml). Returns:
    what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_compound_columns_to_be_unique: {arguments: {column_list: [store_id, day]}} -#}
{% test expect_compound_columns_to_be_unique(
    model,
    column_list,
    quote_columns=false,
    ignore_row_if='all_values_are_missing',
    row_condition=none
) %}
    {%- set columns = lakebed.expectation_quoted(column_list, quote_columns) -%}
    select
        {{ columns | join(',\n        ') }},
        count(*) as n_records
    from {{ model }}
    where
        {{ lakebed.expectation_not_missing(columns, ignore_row_if) }}
        {%- if row_condition %}
        and ({{ row_condition }})
        {%- endif %}
    group by {{ columns | join(', ') }}
    having count(*) > 1
{% endtest %}
