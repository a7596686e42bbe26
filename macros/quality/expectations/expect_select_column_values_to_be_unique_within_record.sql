{#- Generic test: the columns of a row all differ. A row with some NULLs fails, unless
    `ignore_row_if` leaves it out. Arguments: column_list, quote_columns, ignore_row_if,
    row_condition (see _expectations.yml). Returns: what breaks it, one row each. Engines:
    DuckDB, Spark.
    Example: lakebed.expect_select_column_values_to_be_unique_within_record: {arguments: {column_list: [first_phone, second_phone]}} -#}
{% test expect_select_column_values_to_be_unique_within_record(
    model,
    column_list,
    quote_columns=false,
    ignore_row_if='all_values_are_missing',
    row_condition=none
) %}
    {%- set columns = lakebed.expectation_quoted(column_list, quote_columns) -%}
    select * from {{ model }}
    where
        {{ lakebed.expectation_not_missing(columns, ignore_row_if) }}
        {%- if row_condition %}
        and ({{ row_condition }})
        {%- endif %}
        and (
            1 = 0
            {%- for left in columns %}{% for right in columns[loop.index:] %}
            or coalesce(cast({{ left }} as {{ dbt.type_string() }}) = cast({{ right }} as {{ dbt.type_string() }}), true)
            {%- endfor %}{% endfor %}
        )
{% endtest %}
