"""Small tables that test_expectations looks at."""

from __future__ import annotations

#: Name of a model: its SQL. `numbers` has known moments, `texts` odd texts, `nothing` no rows.
MODELS = {
    # v: mean 3, median 3, sum 15, sample deviation sqrt(2.5); medians 1.5 (a) and 4 (b).
    "numbers": """
        select * from (values
            (1, 'a', 1, 10.00, 10, date '2024-01-01'), (2, 'a', 2, 10.01, 10, date '2024-01-02'),
            (3, 'b', 3, 20.00, 20, date '2024-01-03'), (4, 'b', 4, 20.00, 20, date '2024-01-04'),
            (5, 'b', 5, 30.00, 30, date '2024-01-05'), (6, 'b', null, null, null, null)
        ) as t (id, grp, v, amount, tens, day)""",
    "doubled": "select * from {{ ref('numbers') }} union all select * from {{ ref('numbers') }}",
    "texts": r"""
        select * from (values
            (1, 'abc', 'A-12', 'x', {{ lakebed.text_literal('C:\\dir') }}),
            (2, 'abd', 'B-34', 'X', {{ lakebed.text_literal('C:\\dim') }}),
            (3, {{ lakebed.text_literal("O'Hara") }}, 'A-56', 'y',
                {{ lakebed.text_literal('C:\\50%') }}),
            (4, null, null, null, null),
            (5, '', 'C_7', 'y', {{ lakebed.text_literal('C:\\a_b') }})
        ) as t (id, word, code, mixed, path)""",
    "pairs": """
        select * from (values (1, 1, 2, 3), (2, 5, 5, 10), (3, 9, 4, 13), (4, null, 4, 4))
        as t (id, a, b, total)""",
    "nulls": """
        select * from (values (cast(null as int), cast(null as string), cast(null as timestamp)),
        (null, null, null)) as t (n, s, moment)""",
    "nothing": "select * from {{ ref('numbers') }} where 1 = 0",
    "moments": """
        select * from (values
            ('new', timestamp '2024-01-31 11:00:00'), ('new', timestamp '2024-02-05 00:00:00'),
            ('old', timestamp '2024-01-20 00:00:00'), ('old', null),
            (null, timestamp '2024-01-30 00:00:00'), ('later', timestamp '2024-02-05 00:00:00')
        ) as t (grp, happened_at)""",
    # Two values by turns, and a spike on the 30th, in the group 'wild'.
    "series": """
        select
            date_day as day, grp,
            case when grp = 'wild' and date_day = date '2024-01-30' then 1000
                else 10 + day(date_day) % 2 end as amount
        from ({{ lakebed.date_spine('2024-01-01', '2024-01-31') }}) as s
        cross join (values ('calm'), ('wild')) as g (grp)""",
    "gaps": """
        select cast(d as timestamp) as moment from (values
            ('2024-01-15 09:30:00'), ('2024-01-16 10:00:00'), ('2024-01-18 00:00:00'),
            ('2024-01-19 23:00:00'), ('2024-03-01 00:00:00')
        ) as t (d)""",
    "hours": """
        select cast(d as timestamp) as moment from (values
            ('2024-01-15 09:30:00'), ('2024-01-15 10:10:00'), ('2024-01-15 12:00:00')
        ) as t (d)""",
}
