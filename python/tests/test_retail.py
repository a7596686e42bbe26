"""The real data comes out exactly, and building again changes nothing."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from lakehouse import Lakehouse

PROVES = [
    "pat-medallion-lakehouse",
    "pat-dimensional-modeling",
    "pat-dimensional-mart",
    "pat-idempotent",
    "pat-scd-type1",
    "pat-scd-type2",
    "pat-scd-type6",
    "pat-map-filter",
]


@pytest.mark.parametrize(
    ("sql", "published"),
    [
        ("select count(*) from silver.retail__transactions", 1_469_307),
        ("select count(*) from gold.fct_sales_lines", 1_469_307),
        ("select count(*) from gold.fct_baskets", 155_848),
        ("select count(distinct household_id) from gold.fct_sales_lines", 2_469),
        ("select count(*) from gold.dim_stores where store_key != '-1'", 457),
        ("select count(*) from gold.dim_products where product_key != '-1'", 92_331),
        ("select sum(sales_value) from gold.fct_sales_lines", Decimal("4596039.58")),
        ("select sum(sales_value) from gold.fct_baskets", Decimal("4596039.58")),
        ("select sum(sales_value) from gold.agg_daily_sales", Decimal("4596039.58")),
        ("select sum(sales_value) from gold.agg_monthly_sales", Decimal("4596039.58")),
        ("select sum(sales_value) from gold.rm_household_summary", Decimal("4596039.58")),
        ("select sum(sales_value) from serving.bi_sales", Decimal("4596039.58")),
        ("select sum(baskets) from gold.agg_monthly_sales", 155_848),
        ("select count(*) from gold.fct_coupon_redemptions", 2_102),
        ("select count(*) from gold.fct_sales_lines where product_key = '-1'", 4_836),
        ("select count(*) from gold.fct_sales_lines where quantity = 0", 8_869),
        ("select count(*) from silver.retail__coupons", 111_332),
    ],
)
def test_published_totals(whole_year: Lakehouse, sql: str, published: object) -> None:
    assert whole_year.query(sql) == [(published,)]


def test_nothing_of_the_real_data_is_refused(whole_year: Lakehouse) -> None:
    accounts = whole_year.query(
        "select entity, quarantine_rows, duplicate_rows from ops.retail__row_accounting"
        " where quarantine_rows > 0 or duplicate_rows > 0"
    )
    # The real coupon file repeats lines.
    assert accounts == [("coupons", 0, 4_872)]


def test_sales_point_to_the_segment_of_their_day(whole_year: Lakehouse) -> None:
    """Against the change log itself, by brute force: the newest change not after the sale."""
    wrong = whole_year.query(
        """
        select count(*)
        from (from gold.fct_baskets using sample 2000 rows (reservoir, 42)) as baskets
        inner join gold.dim_households as households using (household_key)
        where households.segment != (
            select arg_max(changes.segment, changes.updated_at)
            from silver.retail__household_changes as changes
            where changes.household_id = baskets.household_id
                and changes.updated_at <= baskets.sold_at
        )
        """
    )
    assert wrong == [(0,)]


def test_history_current_and_previous_agree(whole_year: Lakehouse) -> None:
    assert whole_year.query(
        """
        select count(*)
        from gold.dim_household_segments as version
        inner join gold.dim_households as now
            on version.household_id = now.household_id and now.is_current
        left join gold.dim_households as before
            on version.household_id = before.household_id and version.valid_from = before.valid_to
        where version.segment_current != now.segment
            or version.segment_previous is distinct from before.segment
        """
    ) == [(0,)]
    assert whole_year.query(
        "select count(distinct segment) from gold.dim_households where household_id is not null"
    ) == [(5,)]


def test_the_snapshot_holds_what_is_current(whole_year: Lakehouse) -> None:
    assert whole_year.query(
        """
        select count(*), count(*) filter (dimension.segment = snapshot.segment)
        from snapshots.retail__households as snapshot
        inner join gold.dim_households as dimension
            on snapshot.household_id = dimension.household_id and dimension.is_current
        where snapshot.dbt_valid_to is null
        """
    ) == [(2_469, 2_469)]


def test_building_again_changes_nothing(clean: Lakehouse) -> None:
    before = clean.hashes()
    clean.dbt("build")
    assert clean.hashes() == before


def test_the_docs_page_knows_every_table(clean: Lakehouse) -> None:
    clean.dbt("docs", "generate", "--static")
    catalogue = json.loads((clean.home / "target" / "catalog.json").read_text(encoding="utf-8"))
    documented = {
        f"{node['metadata']['schema']}.{node['metadata']['name']}"
        for node in catalogue["nodes"].values()
        if node["columns"]
    }
    assert set(clean.hashes()) <= documented
    page = (clean.home / "target" / "static_index.html").read_text(encoding="utf-8")
    assert '"model.lakebed.fct_sales_lines"' in page
