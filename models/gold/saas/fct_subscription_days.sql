-- Semi-additive: sum mrr over subscriptions, never over days.
with versions as (
    select
        *,
        cast(valid_from as date) as first_date,
        coalesce(cast(valid_to as date), cast('9999-12-31' as date)) as end_date
    from {{ ref('dim_subscriptions') }}
    where subscription_id is not null
),

-- Days for which the log has something to say.
known as (
    select
        min(cast(valid_from as date)) as first_date,
        max(cast(coalesce(valid_to, valid_from) as date)) as last_date
    from versions
),

days as (
    select
        dates.date_key,
        dates.calendar_date
    from {{ ref('dim_dates') }} as dates
    inner join known on dates.calendar_date between known.first_date and known.last_date
),

-- A day has what held at its end.
final as (
    select
        days.date_key,
        versions.subscription_key,
        versions.subscription_id,
        versions.user_id,
        versions.plan_id,
        versions.mrr,
        days.calendar_date
    from versions
    inner join days on versions.first_date <= days.calendar_date and days.calendar_date < versions.end_date
    where versions.status = 'active'
)

select * from final
