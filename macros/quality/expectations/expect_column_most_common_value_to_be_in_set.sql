{#- Generic test: the most common value (or the `top_n`-th) is one of a set. Of equally common
    values the smallest comes first; NULL passes. Arguments: column_name, value_set, top_n,
    quote_values, data_type, row_condition (see _expectations.yml). Returns: what breaks it, one
    row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_most_common_value_to_be_in_set: {arguments: {value_set: [a], top_n: 1}} -#}
{% test expect_column_most_common_value_to_be_in_set(
    model,
    column_name,
    value_set,
    top_n,
    quote_values=true,
    data_type='decimal',
    row_condition=none
) %}
    {%- set value_field = column_name if quote_values else 'cast(' ~ column_name ~ ' as ' ~ data_type ~ ')' %}
    with value_counts as (
        select
            {{ value_field }} as value_field,
            count(*) as value_count
        from {{ model }}
        {%- if row_condition %}
        where {{ row_condition }}
        {%- endif %}
        group by {{ value_field }}
    ),

    ranked as (
        select
            value_field,
            value_count,
            row_number() over (order by value_count desc, value_field asc nulls last) as value_rank
        from value_counts
    )

    select * from ranked
    where
        value_rank = {{ top_n }}
        and value_field is not null
        and not {{ lakebed.expectation_in_set('value_field', value_set, quote_values) }}
{% endtest %}
