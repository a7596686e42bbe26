{#- Every value, or the sum of every group, is within n standard deviations of their mean. -#}
{% test expect_column_values_to_be_within_n_stdevs(model, column_name, group_by=none, sigma_threshold=3) %}
    {%- set groups = [] if not group_by else ([group_by] if group_by is string else group_by) %}
    with metrics as (
        select
            {{ groups | join(', ') ~ ',' if groups }}
            {{ 'sum(' ~ column_name ~ ')' if groups else column_name }} as metric
        from {{ model }}
        {{ 'group by ' ~ groups | join(', ') if groups }}
    ),

    scored as (
        select
            *,
            (metric - avg(metric) over ()) / nullif(stddev_samp(metric) over (), 0) as sigma
        from metrics
    )

    select * from scored
    where abs(sigma) > {{ sigma_threshold }}
{% endtest %}
