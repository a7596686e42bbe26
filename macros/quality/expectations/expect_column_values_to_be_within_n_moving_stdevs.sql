{#- The sum of each of the last test_periods periods (its change against lookback_periods before, on a log scale, unless switched off) is within n standard deviations of the mean of the trend_periods before it. -#}
{% test expect_column_values_to_be_within_n_moving_stdevs(model, column_name, date_column_name, group_by=none, period="day", lookback_periods=1, trend_periods=7, test_periods=14, sigma_threshold=3, sigma_threshold_upper=none, sigma_threshold_lower=none, take_diffs=true, take_logs=true) %}
    {%- set groups = [] if not group_by else ([group_by] if group_by is string else group_by) -%}
    {%- set partition = 'partition by ' ~ groups | join(', ') if groups else '' %}
    with metrics as (
        select
            {{ groups | join(', ') ~ ',' if groups }}
            {{ dbt.date_trunc(period, date_column_name) }} as metric_period,
            {{ 'ln(nullif(sum(' ~ column_name ~ '), 0))' if take_logs else 'sum(' ~ column_name ~ ')' }} as level
        from {{ model }}
        group by {{ (groups + [dbt.date_trunc(period, date_column_name)]) | join(', ') }}
    ),

    changes as (
        select
            *,
            {{ 'level - lag(level, ' ~ lookback_periods ~ ') over (' ~ partition ~ ' order by metric_period)' if take_diffs else 'level' }} as metric
        from metrics
    ),

    scored as (
        select
            *,
            row_number() over ({{ partition }} order by metric_period desc) as periods_ago,
            (metric - avg(metric) over ({{ partition }} order by metric_period rows between {{ trend_periods }} preceding and 1 preceding))
            / nullif(stddev_samp(metric) over ({{ partition }} order by metric_period rows between {{ trend_periods }} preceding and 1 preceding), 0) as sigma
        from changes
    )

    select * from scored
    where periods_ago <= {{ test_periods }}
        and (
            sigma > {{ sigma_threshold if sigma_threshold_upper is none else sigma_threshold_upper }}
            or sigma < {{ -sigma_threshold if sigma_threshold_lower is none else sigma_threshold_lower }}
        )
{% endtest %}
