"""Lakebed as a package: a project of its own installs it with `dbt deps` and builds."""

from __future__ import annotations

from pathlib import Path

import pytest
from harness import DbtProject

PROVES = [
    "pat-deduplication",
    "pat-merge-upsert",
    "pat-scd-type2",
    "pat-scd-type6",
    "pat-schema-enforcement",
]

TABLES = [
    "shop.first_orders",
    "shop.orders",
    "shop.customers",
    "shop.prices",
    "shop.refused_prices",
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> DbtProject:
    source = Path(__file__).parent / "package_project"
    project = DbtProject.copy(source, tmp_path_factory.mktemp("shop") / "project")
    project.run("deps")
    for batch in (1, 2, 3):
        project.run("build", "--vars", f"batch: {batch}")
    return project


def test_only_the_project_is_built(shop: DbtProject) -> None:
    tables = shop.query(
        "select table_schema || '.' || table_name from information_schema.tables"
        " where table_catalog = 'lakebed' and table_schema = 'shop'"
    )
    assert sorted(row[0] for row in tables) == sorted(
        [*TABLES, "shop.order_changes", "shop.raw_prices"]
    )


def test_first_orders(shop: DbtProject) -> None:
    rows = shop.query("select order_id, city, amount::varchar from shop.first_orders order by all")
    assert rows == [
        *((1, "Köln", "10.50"), (2, "Aachen", "7.00"), (3, "東京", "99.00"), (4, "Ulm", "5.00")),
        *((None, "Ulm", "1.00"), (None, "Ulm", "2.00")),
    ]


def test_orders_as_last_stated(shop: DbtProject) -> None:
    rows = shop.query("select order_id, city, is_deleted from shop.orders order by order_id")
    assert rows == [
        *((1, "Bonn", False), (2, "Bonn", False), (3, "東京", True), (4, "Ulm", False)),
    ]


def test_ties_follow_the_order_of_a_contract(shop: DbtProject) -> None:
    """dbt reorders a model's columns by its contract; the first run must hash them so too."""
    compiled = shop.compiled("models/orders.sql")
    assert "{'amount': _row.\"amount\", 'order_id': _row.\"order_id\"" in compiled


def test_customers(shop: DbtProject) -> None:
    rows = shop.query(
        "select city, day(valid_from), is_current, city_current, city_previous"
        " from shop.customers where customer = 'Zoë' order by valid_from"
    )
    assert rows == [
        ("Köln", 1, False, "Bonn", None),
        ("Aachen", 1, False, "Bonn", "Köln"),
        ("Bonn", 2, True, "Bonn", "Aachen"),
    ]


def test_lines_are_judged_by_declared_rules(shop: DbtProject) -> None:
    rows = shop.query("select product_id, price::varchar, since::varchar from shop.prices")
    assert sorted(rows) == [(1, "2.50", "2024-01-01"), (5, "3.00", "2024-02-01")]
    refused = shop.query("select _line, broken_rules from shop.refused_prices order by _line")
    assert [(line, rules if isinstance(rules, list) else [rules]) for line, rules in refused] == [
        (3, ["negative_price"]),
        (4, ["invalid_product_id"]),
        (5, ["missing_product_id"]),
        (6, ["malformed_line"]),
    ]


def test_building_again_changes_nothing(shop: DbtProject) -> None:
    before = [shop.table_hash(table) for table in TABLES]
    shop.run("build", "--vars", "batch: 3")
    assert [shop.table_hash(table) for table in TABLES] == before


def test_broken_expectations_and_keys_fail_the_build(shop: DbtProject) -> None:
    shop.query("insert into shop.orders select * from shop.orders where order_id = 1")
    shop.query("insert into shop.orders (order_id, amount) values (null, -1)")
    run = shop.run("test", "--select", "orders", check=False)
    assert len(run.statuses) == 3
    assert set(run.statuses.values()) == {"fail"}, run.log
