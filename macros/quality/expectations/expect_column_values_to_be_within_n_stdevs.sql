{#- Generic test: values, or their sums by group, are within n sample standard deviations of their
    mean. NULLs pass. Arguments: column_name, group_by, sigma_threshold (see _expectations.yml).
    Returns: what breaks it, one row each. Engines: DuckDB, Spark.
    Example: lakebed.expect_column_values_to_be_within_n_stdevs: {arguments: {group_by: [day], sigma_threshold: 3}} -#}
{% test expect_column_values_to_be_within_n_stdevs(model, column_name, group_by=none, sigma_threshold=3) %}
    {%- set groups = lakebed.expectation_list(group_by) %}
    with metric_values as (
        select
            {%- for group in groups %}
            {{ group }} as col_{{ loop.index }},
            {%- endfor %}
            {{ 'sum(' ~ column_name ~ ')' if groups else column_name }} as metric_value
        from {{ model }}
        {%- if groups %}
        group by {{ groups | join(', ') }}
        {%- endif %}
    ),

    moments as (
        select
            *,
            avg(metric_value) over () as metric_average,
            stddev_samp(metric_value) over () as metric_stddev
        from metric_values
    ),

    scores as (
        select
            *,
            (metric_value - metric_average) / nullif(metric_stddev, 0) as metric_sigma
        from moments
    )

    select * from scores
    where abs(metric_sigma) > {{ sigma_threshold }}
{% endtest %}
