{#- Generic test: no text is written in two ways that differ in upper and lower case only. NULLs
    pass. Arguments: column_name, display_inconsistent_columns (see _expectations.yml). Returns:
    what breaks it, one row each. Engines: DuckDB, Spark.
    Example: data_tests: [lakebed.expect_column_values_to_have_consistent_casing] -#}
{% test expect_column_values_to_have_consistent_casing(model, column_name, display_inconsistent_columns=false) %}
    with spellings as (
        select
            lower({{ column_name }}) as inconsistent_columns,
            count(distinct {{ column_name }}) as set_count_case_insensitive
        from {{ model }}
        where {{ column_name }} is not null
        group by lower({{ column_name }})
    )
    {% if display_inconsistent_columns %}
    select * from spellings
    where set_count_case_insensitive > 1
    {% else %}
    select
        sum(set_count_case_insensitive) as set_count,
        count(*) as set_count_case_insensitive
    from spellings
    having sum(set_count_case_insensitive) <> count(*)
    {% endif %}
{% endtest %}
