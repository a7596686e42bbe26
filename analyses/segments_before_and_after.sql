-- Where households go from one segment to the next, and what they spent before: SCD 2 and
-- SCD 6 in one question. Run `dbt compile`, then the SQL in target/compiled, or paste it
-- into `lakebed sql`.
with moves as (
    select
        household_key,
        segment_previous,
        segment
    from {{ ref('dim_household_segments') }}
    where segment_previous is not null
),

baskets as (
    select * from {{ ref('fct_baskets') }}
),

final as (
    select
        moves.segment_previous,
        moves.segment,
        count(distinct moves.household_key) as moves,
        count(baskets.basket_id) as baskets_after,
        sum(baskets.sales_value) as sales_value_after
    from moves
    left join baskets on moves.household_key = baskets.household_key
    group by moves.segment_previous, moves.segment
)

select * from final
order by moves desc
