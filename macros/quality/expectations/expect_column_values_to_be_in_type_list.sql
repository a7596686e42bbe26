{#- Generic test: the column's type is one of a list. A column that isn't there fails. Arguments:
    column_name, column_type_list (see _expectations.yml). Returns: what breaks it, one row
    each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_values_to_be_in_type_list: {arguments: {column_type_list: [date, timestamp]}} -#}
{% test expect_column_values_to_be_in_type_list(model, column_name, column_type_list) %}
    {%- set wrong = [] -%}
    {%- if execute -%}
        {%- set wanted = [] -%}
        {%- for type in column_type_list -%}{%- do wanted.append(lakebed.type_name(type)) -%}{%- endfor -%}
        {%- set found = namespace(type='no such column') -%}
        {%- for column in adapter.get_columns_in_relation(model) -%}
            {%- if column.name | upper == column_name | upper | replace('"', '') | replace('`', '') -%}
                {%- set found.type = column.dtype -%}
            {%- endif -%}
        {%- endfor -%}
        {%- if lakebed.type_name(found.type) not in wanted -%}{%- do wrong.append(found.type) -%}{%- endif -%}
    {%- endif -%}
    {{ lakebed.expectation_names(wrong, 'column_type') }}
{% endtest %}
