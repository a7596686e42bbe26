{#- Splits one CSV line into its fields: RFC 4180 quotes, no line breaks inside a field.
    Arguments: line, a SQL expression of type string.
    Returns: SQL expression, an array of strings. Engines: DuckDB, Spark.
    Example: select {{ lakebed.csv_fields('_record') }} as fields -#}
{% macro csv_fields(line) %}
    {{- return(adapter.dispatch('csv_fields', 'lakebed')(line)) -}}
{% endmacro %}

{#- Most lines have no quote, and a plain split is four times as fast as the expression. -#}
{% macro duckdb__csv_fields(line) -%}
    case
        when contains({{ line }}, '"') then list_transform(
            regexp_extract_all({{ line }} || ',', '("(?:[^"]|"")*"|[^,]*),', 1),
            lambda field: case
                when starts_with(field, '"') then replace(field[2:-2], '""', '"')
                else field
            end
        )
        else string_split({{ line }}, ',')
    end
{%- endmacro %}

{% macro spark__csv_fields(line) -%}
    case
        when contains({{ line }}, '"') then transform(
            regexp_extract_all(concat({{ line }}, ','), r'("(?:[^"]|"")*"|[^,]*),', 1),
            field -> case
                when startswith(field, '"') then replace(substring(field, 2, length(field) - 2), '""', '"')
                else field
            end
        )
        else split({{ line }}, ',')
    end
{%- endmacro %}

{#- The field under the first of several header names that the file has, NULL when empty or absent.
    Arguments: fields and header, array expressions; names, a list of strings.
    Returns: SQL expression of type string. Engines: DuckDB, Spark. -#}
{% macro csv_field(fields, header, names) %}
    {{- return(adapter.dispatch('csv_field', 'lakebed')(fields, header, names)) -}}
{% endmacro %}

{% macro duckdb__csv_field(fields, header, names) -%}
    nullif(trim({{ fields }}[coalesce(
        {%- for name in names %}list_position({{ header }}, '{{ name }}'), {% endfor %}0)]), '')
{%- endmacro %}

{% macro spark__csv_field(fields, header, names) -%}
    nullif(trim(coalesce(
        {%- for name in names %}try_element_at({{ fields }}, nullif(cast(array_position({{ header }}, '{{ name }}') as int), 0)){{ ", " if not loop.last }}{% endfor %})), '')
{%- endmacro %}

{#- The same for the condition of a DELETE or UPDATE: without nullif, which Spark 4 evaluates once for a row by way of
    an expression of its own, and Iceberg does not find that there. -#}
{% macro csv_field_in_condition(fields, header, names) %}
    {{- return(adapter.dispatch('csv_field_in_condition', 'lakebed')(fields, header, names)) -}}
{% endmacro %}
{% macro default__csv_field_in_condition(fields, header, names) %}{{- return(lakebed.csv_field(fields, header, names)) -}}{% endmacro %}
{% macro spark__csv_field_in_condition(fields, header, names) -%}
    get(array_remove(array(trim(coalesce(
        {%- for name in names %}get({{ fields }}, cast(array_position({{ header }}, '{{ name }}') - 1 as int)){{ ", " if not loop.last }}{% endfor %}))), ''), 0)
{%- endmacro %}

{#- Number of elements of an array. Engines: DuckDB, Spark. -#}
{% macro array_size(array) %}
    {{- return(adapter.dispatch('array_size', 'lakebed')(array)) -}}
{% endmacro %}

{% macro duckdb__array_size(array) -%} len({{ array }}) {%- endmacro %}
{% macro spark__array_size(array) -%} size({{ array }}) {%- endmacro %}
