{#- Generic test: the share of distinct values among the values is between two bounds. NULLs are
    ignored; without a value the share is 1. Arguments: column_name, min_value, max_value,
    group_by, row_condition, strictly (see _expectations.yml). Returns: what breaks it, one row
    each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_proportion_of_unique_values_to_be_between: {arguments: {min_value: 0.9}} -#}
{% test expect_column_proportion_of_unique_values_to_be_between(
    model,
    column_name,
    min_value=none,
    max_value=none,
    group_by=none,
    row_condition=none,
    strictly=false
) %}
    {%- set share -%}
        case
            when count({{ column_name }}) = 0 then 1.0
            else cast(count(distinct {{ column_name }}) as double) / count({{ column_name }})
        end
    {%- endset -%}
    {%- set holds = lakebed.expectation_bounds('observed', min_value, max_value, strictly) -%}
    {{ lakebed.expectation_groups(model, share, holds, group_by, row_condition) }}
{% endtest %}
