with versions as (
    select * from {{ ref('dim_subscriptions') }}
    where subscription_id is not null and mrr != 0
),

-- As in a ledger: a version brings its amount when it begins and takes it when it ends.
postings as (
    select
        user_id,
        mrr as amount,
        cast(valid_from as date) as movement_date
    from versions
    union all
    select
        user_id,
        -mrr as amount,
        cast(valid_to as date) as movement_date
    from versions
    where valid_to is not null
),

-- What comes and goes on one day is no movement.
changes as (
    select
        user_id,
        cast(sum(amount) as decimal(18, 2)) as mrr_change,
        movement_date
    from postings
    group by user_id, movement_date
    having sum(amount) != 0
),

balances as (
    select
        *,
        cast(sum(mrr_change) over (partition by user_id order by movement_date) as decimal(18, 2)) as closing_mrr,
        row_number() over (partition by user_id order by movement_date) as movement_number
    from changes
),

final as (
    select
        {{ lakebed.date_key('movement_date') }} as date_key,
        user_id,
        case
            when movement_number = 1 then 'new'
            when closing_mrr = mrr_change then 'reactivation'
            when closing_mrr = 0 then 'churn'
            when mrr_change > 0 then 'expansion'
            else 'contraction'
        end as movement,
        cast(closing_mrr - mrr_change as decimal(18, 2)) as opening_mrr,
        mrr_change,
        closing_mrr,
        movement_date
    from balances
)

select * from final
