"""The subscription business: what the lake says of it, and what its own ledger says."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from business import Business
from lakebed.parity import compare
from lakebed.spark.cluster import down, free_ports, up
from lakebed.spark.settings import connect_session
from postgres import Postgres, need_capture

pytestmark = pytest.mark.timeout(1800)
PROVES = [
    "pat-cdc-log-based",
    "pat-cqrs-read-model",
    "pat-dimensional-mart",
    "pat-dimensional-modeling",
    "pat-outbox-cdc",
    "pat-scd-type2",
]

BUILD = ("build", "--selector", "saas")
#: On Spark, in the soak: what grows, which is silver and the read models; then all, as it is at
#: once in `make test` (that they grow as they are made is each macro's own test). Data tests see
#: the rows that they see on DuckDB, or these would differ.
READ_MODELS = "path:models/gold/saas,config.materialized:incremental"
GROWS = ("run", "--select", "path:models/silver/saas", READ_MODELS)
ALL = (*BUILD, "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
#: Days up to which the business lives between two builds; one without anything new.
DELIVERIES = ["2024-01-20", "2024-02-25", "2024-03-20", "2024-03-20"]
KEYS = {
    "users": ("user_id", ["email", "name", "country", "created_at"]),
    "plans": ("plan_id", ["name", "monthly_price"]),
    "subscriptions": (
        "subscription_id",
        ["user_id", "plan_id", "status", "monthly_amount", "started_at", "canceled_at"],
    ),
}

#: Of bronze, as `lakebed capture` makes it.
SCHEMA = (
    "_source string, _topic string, _topic_partition int, _offset bigint, _key string,"
    " _record string, _headers string, _sent_at timestamp, _batch_id bigint, ingested_at timestamp"
)


#: Of the soak: kills of the application, the database, the capture, and of its parts.
KILLS = 300
LONG = [pytest.mark.soak, pytest.mark.timeout(4 * 3600)]


@pytest.fixture(scope="module", params=["deliveries", pytest.param("kills", marks=LONG)])
def business(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Business]:
    """Some weeks: the application killed now and then, captured and built in between; or more than
    a year, with capture and its builds beside it, and everything killed all the time."""
    need_capture()
    dice = random.Random(5)
    home = tmp_path_factory.mktemp("saas")
    source = Postgres(home / "pg")
    source.start()
    business = Business(home, source)
    assert business.live("2023-12-31").wait() == 0  # the schema and the plans
    business.capture()  # history begins with the first capture
    if request.param == "kills":
        _killed(business, dice)
    else:
        _delivered(business, dice)
    yield business
    source.stop()


def _delivered(business: Business, dice: random.Random) -> None:
    for number, until in enumerate(DELIVERIES):
        while True:
            life = business.live(until)
            if number == 1:
                business.capture()  # beside it
            try:
                assert life.wait(dice.uniform(0.5, 1.5) if number < 2 else None) == 0
                break
            except subprocess.TimeoutExpired:
                life.send_signal(signal.SIGKILL)
                life.wait()
        business.capture()
        business.lakehouse.dbt(*BUILD)


def _killed(business: Business, dice: random.Random) -> None:
    day = date(2023, 12, 31)
    said = (business.lakehouse.home / "capture.log").open("w", encoding="utf-8")
    capture = business.capturing(output=said)
    for _ in range(KILLS):
        if capture.poll() is not None:
            capture = business.capturing(output=said)
        day += timedelta(days=2)
        life = business.live(str(day))
        victim = dice.choice(["application", "database", "capture", "part of it"])
        # A capture that is killed before it has begun proves little.
        time.sleep(dice.uniform(0.2, 12 if victim in ("capture", "part of it") else 3))
        if victim == "application":
            life.kill()
        elif victim == "database":
            business.source.stop("immediate")
            business.source.start()
        elif victim == "capture":
            capture.kill()
        elif children := children_of(capture.pid):  # the engine, or dbt
            os.kill(dice.choice(children), signal.SIGKILL)
        life.wait()
    capture.kill()
    capture.wait()
    assert business.live(str(day)).wait() == 0
    business.capture()
    business.lakehouse.dbt(*BUILD)


def children_of(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in found.read_text().split()] if found.exists() else []


def timestamp(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).replace(tzinfo=None)


def typed(column: str, value: Any) -> Any:
    if column.endswith("_at"):
        return timestamp(value)
    if column in ("monthly_price", "monthly_amount", "amount"):
        return Decimal(value)
    return value


def histories(business: Business, entity: str) -> dict[Any, list[tuple[datetime, Any]]]:
    """For each key its states from a time on; None: it is not there."""
    key, columns = KEYS[entity]
    changes: dict[Any, dict[datetime, Any]] = defaultdict(dict)
    for of, op, row, at in business.ledger():
        if of != entity:
            continue
        if op == "u" and entity == "plans" and row[key] not in changes:
            raise AssertionError("a plan that nobody made")
        state = None if op == "d" else tuple(typed(c, row[c]) for c in columns)
        changes[row[key]][at] = state
    found = {}
    for value, steps in changes.items():
        kept: list[tuple[datetime, Any]] = []
        for at, state in sorted(steps.items()):
            if not kept or kept[-1][1] != state:
                kept.append((at, state))
        found[value] = kept
    return found


def versions(business: Business, entity: str) -> set[tuple[Any, ...]]:
    found = set()
    for key, steps in histories(business, entity).items():
        for (at, state), (until, _) in zip(steps, [*steps[1:], (None, None)], strict=True):
            if state is not None:
                found.add((key, *state, at, until))
    return found


@pytest.mark.parametrize("table", ["users", "plans", "subscriptions", "payments"])
def test_silver_is_the_table(business: Business, table: str) -> None:
    found, truth = business.rows(table)
    assert len(truth) > 4
    assert found == truth


@pytest.mark.parametrize("entity", list(KEYS))
def test_the_history_is_the_ledgers(business: Business, entity: str) -> None:
    key, columns = KEYS[entity]
    found = business.lakehouse.query(
        f"select {key}, {', '.join(columns)}, valid_from, valid_to from gold.dim_{entity}"
        f" where {key} is not null"
    )
    truth = versions(business, entity)
    assert len(truth) > 10
    assert {row if entity != "users" else unknown(row) for row in found} == {
        row if entity != "users" else unknown(row) for row in truth
    }
    assert len(found) == len(truth)


def unknown(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return (*row[:3], row[3] or "Unknown", *row[4:])


def test_the_outbox_says_what_was_committed(business: Business) -> None:
    truth = [
        (row["id"], row["aggregateid"], row["type"], row["payload"])
        for entity, _, row, _ in business.ledger()
        if entity == "outbox"
    ]
    found = [
        (event, user, kind, json.loads(payload))
        for event, user, kind, payload in business.lakehouse.query(
            "select id, aggregateid, type, payload from silver.saas__events"
        )
    ]
    assert len(truth) > 500
    assert sorted(found, key=str) == sorted(truth, key=str)
    # The application sweeps it: most of them are no longer there.
    assert business.source.query("select count(*) from app.outbox")[0][0] < len(truth) / 2
    per_user = business.lakehouse.query(
        "select count(*) from (select occurred_at, lag(occurred_at) over (partition by aggregateid"
        " order by _position) as before from silver.saas__events) where before > occurred_at"
    )
    assert per_user == [(0,)]


def test_read_models_say_what_the_events_say(business: Business) -> None:
    """Against the database itself, which the events never saw."""
    summary = business.lakehouse.query(
        "select customer_id, active_subscriptions, mrr from gold.rm_customer_summary"
        " where deleted_at is null and active_subscriptions > 0"
    )
    truth = business.source.query(
        "select user_id, count(*), sum(monthly_amount) from app.subscriptions"
        " where status = 'active' group by user_id"
    )
    assert len(truth) > 50
    assert sorted(summary) == sorted(truth)
    paid: dict[int, Decimal] = defaultdict(Decimal)
    for entity, _, row, _ in business.ledger():
        if entity == "outbox" and row["type"] in ("paid", "refunded"):
            paid[int(row["aggregateid"])] += Decimal(row["payload"]["amount"])
    found = business.lakehouse.query(
        "select customer_id, max_by(paid_so_far, event_number), max(event_number) = count(*)"
        " from gold.rm_customer_timeline group by customer_id"
    )
    assert {customer: amount for customer, amount, _ in found if amount} == {
        customer: amount for customer, amount in paid.items() if amount
    }
    assert all(numbered for _, _, numbered in found)


def test_mrr_is_the_ledgers_on_every_day(business: Business) -> None:
    first, last = business.lakehouse.query(
        "select min(calendar_date), max(calendar_date) from gold.agg_daily_mrr"
    )[0]
    steps = histories(business, "subscriptions")
    truth: dict[tuple[date, str], Decimal] = defaultdict(Decimal)
    held: dict[int, Decimal] = defaultdict(Decimal)
    seen: set[int] = set()
    day = first
    while day <= last:
        now: dict[int, Decimal] = defaultdict(Decimal)
        for states in steps.values():
            state = next((s for at, s in reversed(states) if at.date() <= day), None)
            if state and state[2] == "active":
                now[state[0]] += state[3]
        for user in {*held, *now}:
            before, after = held[user], now[user]
            if before == after:
                continue
            kind = (
                ("reactivation" if user in seen else "new")
                if not before
                else "churn"
                if not after
                else "expansion"
                if after > before
                else "contraction"
            )
            truth[day, kind] += after - before
            seen.add(user)
        truth[day, "closing"] = sum(now.values(), Decimal())
        held, day = now, day + timedelta(days=1)
    kinds = ["new", "reactivation", "expansion", "contraction", "churn", "closing"]
    rows = business.lakehouse.query(
        f"select calendar_date, {', '.join(f'{kind}_mrr' for kind in kinds)}"
        " from gold.agg_daily_mrr"
    )
    found = {
        (row[0], kind): amount
        for row in rows
        for kind, amount in zip(kinds, row[1:], strict=True)
        if amount or kind == "closing"
    }
    assert found == truth
    assert {kind for _, kind in truth} == set(kinds)


def test_payments_add_up_and_every_key_is_known(business: Business) -> None:
    total = business.source.query("select count(*), sum(amount) from app.payments")
    assert business.lakehouse.query("select count(*), sum(amount) from gold.fct_payments") == total
    unknown = business.lakehouse.query(
        "select count(*) from gold.fct_payments"
        " where '-1' in (user_key, plan_key, subscription_key)"
    )
    assert unknown == [(0,)]
    assert business.lakehouse.query("select count(*) from quarantine.saas__changes") == [(0,)]


def test_rebuilt_is_the_same(business: Business) -> None:
    layers = business.lakehouse.hashes()
    business.lakehouse.dbt(*BUILD, "--full-refresh")
    assert business.lakehouse.hashes() == layers


def test_a_user_is_erased_for_good(business: Business) -> None:
    """It changes the lake."""
    lakehouse = business.lakehouse
    lakehouse.env["LAKEBED_ERASURE_KEY"] = "a key of this test only"
    ((user, email),) = lakehouse.query(
        "select any_value(user_id), any_value(email) from gold.dim_users where user_id ="
        " (select min(user_id) from gold.dim_subscriptions)"
    )
    total = lakehouse.query("select sum(amount) from gold.fct_payments")
    lakehouse.run("lakebed", "erase", "run", "user", str(user))
    verify = ("lakebed", "erase", "verify", "user", str(user), "--value", email)
    assert "Nothing is left" in lakehouse.run(*verify).stdout
    lakehouse.dbt(*BUILD, "--full-refresh")
    assert "Nothing is left" in lakehouse.run(*verify).stdout
    # Payments name nobody, so money that was paid was paid.
    assert lakehouse.query("select sum(amount) from gold.fct_payments") == total


@pytest.mark.spark
@pytest.mark.usefixtures("spark")
@pytest.mark.parametrize("table_format", ["delta", pytest.param("iceberg", marks=LONG)])
def test_spark_has_the_same_rows(
    business: Business, request: pytest.FixtureRequest, table_format: str
) -> None:
    """Bronze is handed over, in the soak in two deliveries; Spark builds the rest of it."""
    lakehouse = business.lakehouse
    home = lakehouse.home / "lake" / "spark"
    thrift, connect = free_ports(2)
    cluster = up(home, 0, thrift, connect, table_format)
    try:
        lakehouse.env.update(cluster.environment)
        tables = [
            name
            for (name,) in lakehouse.query(
                "select table_name from duckdb_tables() where schema_name = 'bronze'"
            )
        ]
        assert len(tables) == 5
        ((middle,),) = lakehouse.query("select max(_batch_id) // 2 from bronze.saas__users")
        deliveries = {f"_batch_id <= {middle}": GROWS, f"_batch_id > {middle}": ALL}
        if request.node.callspec.params["business"] == "deliveries":
            deliveries = {"true": ALL}
        for batches, build in deliveries.items():
            with connect_session(cluster.connect_url) as spark, lakehouse.connect() as lake:
                spark.sql("create schema if not exists bronze")
                for table in tables:
                    rows = lake.sql(f"from bronze.{table} where {batches}").to_arrow_table()
                    if rows.num_rows:
                        frame = spark.createDataFrame(rows.to_pandas(), schema=SCHEMA)
                        frame.write.format(table_format).mode("append").saveAsTable(
                            f"bronze.{table}"
                        )
            lakehouse.dbt(*build, "--target", "spark")
        tables_compared, found = compare(lakehouse.home / "lake")
        # What streams keep about themselves is DuckLake's.
        assert [difference for difference in found if not difference.table.startswith("ops.")] == []
        assert tables_compared > 20
    finally:
        down(home)
        shutil.rmtree(home)
