{#- A key from the values of some columns: md5 of their text, the same on every engine. NULL
    differs from '' and from every text, and values cannot run into each other.
    Arguments: columns, a list of SQL expressions.
    Returns: SQL expression, 32 hexadecimal digits. Engines: DuckDB, Spark.
    Timestamps are written to the microsecond by to_text, decimals with their scale.
    Example: {{ lakebed.surrogate_key(['household_id', 'valid_from']) }} as household_key -#}
{% macro surrogate_key(columns) -%}
    md5(concat_ws('|',
        {%- for column in columns %}
        coalesce(replace(replace({{ lakebed.to_text(column) }}, '~', '~0'), '|', '~1'), '~')
        {{- ',' if not loop.last }}
        {%- endfor %}
    ))
{%- endmacro %}

{#- The text of a value, the same on both engines: timestamps as written by Spark
    (no fraction when it is zero), booleans in lower case.
    Arguments: expression. Returns: SQL expression of type string. -#}
{% macro to_text(expression) -%}
    cast({{ expression }} as {{ dbt.type_string() }})
{%- endmacro %}

{#- A number that orders rows as they were received: batch, then file, then line. Rows of one
    statement only: the rank of the file is within the batch.
    Returns: SQL expression of type bigint. -#}
{% macro received_order() -%}
    cast(_batch_id * 1000000000000 + dense_rank() over (partition by _batch_id order by _file_name) * 100000000 + _line as bigint)
{%- endmacro %}
