{#- Generic test: a sum by period is within n standard deviations of the periods before it. Whole
    periods before lakebed.as_of() are checked; a period whose past has no deviation passes.
    Arguments: column_name, date_column_name, group_by, period, lookback_periods, trend_periods,
    test_periods, sigma_threshold, sigma_threshold_upper, sigma_threshold_lower, take_diffs,
    take_logs (see _expectations.yml). Returns: what breaks it, one row each. Engines: DuckDB,
    Spark.
    Example: lakebed.expect_column_values_to_be_within_n_moving_stdevs: {arguments: {date_column_name: day}} -#}
{% test expect_column_values_to_be_within_n_moving_stdevs(
    model,
    column_name,
    date_column_name,
    group_by=none,
    period='day',
    lookback_periods=1,
    trend_periods=7,
    test_periods=14,
    sigma_threshold=3,
    sigma_threshold_upper=none,
    sigma_threshold_lower=none,
    take_diffs=true,
    take_logs=true
) %}
    {%- set upper = sigma_threshold_upper if sigma_threshold_upper is not none else sigma_threshold -%}
    {%- set lower = sigma_threshold_lower if sigma_threshold_lower is not none else -1 * sigma_threshold -%}
    {%- set groups = lakebed.expectation_list(group_by) -%}
    {%- set metric_period = lakebed.start_of_datepart(period, date_column_name) -%}
    {%- set this_period = lakebed.start_of_datepart(period, lakebed.as_of()) -%}
    {%- set partition -%}
        {%- if groups %}partition by {% for group in groups %}col_{{ loop.index }}{{ ', ' if not loop.last }}{% endfor %}{% endif -%}
    {%- endset -%}
    {%- set metric = 'ln(case when {0} > 0 then {0} end)' if take_logs else '{0}' %}
    with metric_values as (
        select
            {{ metric_period }} as metric_period,
            {%- for group in groups %}
            {{ group }} as col_{{ loop.index }},
            {%- endfor %}
            sum({{ column_name }}) as agg_metric_value
        from {{ model }}
        group by {{ ([metric_period] + groups) | join(', ') }}
    ),

    with_priors as (
        select
            *,
            lag(agg_metric_value, {{ lookback_periods }}) over ({{ partition }} order by metric_period)
                as prior_agg_metric_value
        from metric_values
    ),

    test_values as (
        select
            *,
            coalesce({{ metric.format('agg_metric_value') }}, 0)
            {%- if take_diffs %} - coalesce({{ metric.format('prior_agg_metric_value') }}, 0){% endif %}
                as metric_test_value
        from with_priors
    ),

    moving as (
        select
            *,
            avg(metric_test_value) over trend as metric_test_rolling_average,
            stddev_samp(metric_test_value) over trend as metric_test_rolling_stddev
        from test_values
        window trend as (
            {{ partition }} order by metric_period
            rows between {{ trend_periods }} preceding and 1 preceding
        )
    ),

    scores as (
        select
            *,
            (metric_test_value - metric_test_rolling_average) / nullif(metric_test_rolling_stddev, 0)
                as metric_test_sigma
        from moving
    )

    select * from scores
    where
        metric_period >= {{ lakebed.add_dateparts(period, -1 * test_periods, this_period) }}
        and metric_period < {{ this_period }}
        and not (metric_test_sigma >= {{ lower }} and metric_test_sigma <= {{ upper }})
{% endtest %}
