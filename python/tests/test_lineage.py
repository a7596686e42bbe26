"""Lineage of the project itself, and the OpenLineage events of real runs."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import duckdb
import pytest
from business import Business
from lakebed.lake import load_extensions
from lakebed.lineage.arrivals import configured
from lakebed.lineage.graph import Graph, build
from lakebed.lineage.page import page
from lakehouse import REPO, Lakehouse
from postgres import Postgres, need_capture

pytestmark = pytest.mark.timeout(600)
PROVES = ["pat-lineage-capture", "pat-lineage-visualization"]


class Receiver:
    """What takes OpenLineage events, as Marquez does; with `status` 503 it takes none."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.status = 201
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if receiver.status == 201:
                    assert self.path == "/api/v1/lineage"
                    receiver.events.append(json.loads(body))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self) -> list[dict[str, Any]]:
        events, self.events = self.events, []
        return events


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()


def well_formed(events: list[dict[str, Any]]) -> None:
    """What the specification asks of runs: one begin, one end, in that order, and parents known."""
    runs: dict[str, list[str]] = {}
    for event in events:
        assert event["producer"].startswith("https://")
        assert event["eventTime"]
        assert event["job"]["name"]
        if event["schemaURL"].endswith("/RunEvent"):
            UUID(event["run"]["runId"])
            runs.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert all(
        len(states) == 2 and states[0] == "START" and states[1] in ("COMPLETE", "FAIL", "ABORT")
        for states in runs.values()
    ), runs
    for event in events:
        if parent := event.get("run", {}).get("facets", {}).get("parent"):
            assert parent["run"]["runId"] in runs


def roots(events: list[dict[str, Any]], name: str, field: str) -> set[tuple[str, str]]:
    """Where a column comes from, by what the events say and nothing else."""
    made_of: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for event in events:
        for output in event["outputs"]:
            facet = output["facets"].get("columnLineage", {"fields": {}})
            for column, fields in facet["fields"].items():
                direct = {
                    (f"{each['namespace']} {each['name']}", each["field"])
                    for each in fields["inputFields"]
                    if each["transformations"][0]["type"] == "DIRECT"
                }
                made_of.setdefault((f"{output['namespace']} {output['name']}", column), set())
                made_of[f"{output['namespace']} {output['name']}", column] |= direct
    (begin,) = {at for at in made_of if at[0].endswith(f" {name}") and at[1] == field}
    found, waiting, seen = set(), [begin], {begin}
    while waiting:
        at = waiting.pop()
        above = made_of.get(at, set())
        if not above:
            found.add(at)
        waiting += above - seen
        seen |= above
    return found


def project_graph(lakehouse: Lakehouse) -> Graph:
    manifest = json.loads((lakehouse.home / "target" / "manifest.json").read_text("utf-8"))
    arrivals, problems = configured(REPO / "streams")
    assert not problems
    return build(manifest, arrivals)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """All domains of the project, compiled over an empty lake."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("lineage"), {"LAKEBED_DOMAINS": "saas"})
    assert ", 0 are unknown" in lakehouse.run("lakebed", "lineage", "check").stdout
    return lakehouse


def ask(lakehouse: Lakehouse, *question: str, code: int = 0) -> str:
    done = lakehouse.run("lakebed", "lineage", *question, "--no-compile", check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def test_gold_is_traced_to_files_and_databases(compiled: Lakehouse) -> None:
    graph = project_graph(compiled)
    assert not graph.problems
    known = graph.completeness()
    assert known.unknown == 0
    assert known.traced > 400
    # What people care about in gold comes from outside; but for counts and keys of calendars.
    for table, column, outside in (
        ("gold.dim_users", "email", "app.users.email"),
        ("gold.agg_daily_mrr", "closing_mrr", "app.subscriptions.monthly_amount"),
        ("gold.fct_sales_lines", "sales_value", "landing/retail/transactions.sales_value"),
        ("gold.dim_households", "income", "landing/retail/households.income"),
        ("gold.agg_department_pairs", "lift", "landing/retail/transactions.basket_id"),
    ):
        found = {f"{s.table}.{s.column}" for s in graph.upstream(table, column)}
        assert any(each.endswith(outside) for each in found), (table, column)


def test_questions_and_answers(compiled: Lakehouse) -> None:
    assert ask(compiled, "upstream", "gold.dim_users.email").splitlines() == [
        "silver.saas__user_changes.email  as it is",
        "  bronze.saas__users._record.after.email  changed",
        "  bronze.saas__users._record.before.email  changed",
        "  bronze.saas__users._record.op  decides",
        "    postgres://127.0.0.1:54329/postgres.app.users.email  changed",
    ]
    answer = ask(compiled, "downstream", "silver_retail__transactions.sales_value", "--json")
    found = {(row["table"], row["how"]) for row in map(json.loads, answer.splitlines())}
    assert ("gold.agg_monthly_sales", "aggregated") in found
    # A column that only filters or joins concerns rows, not columns.
    answer = ask(compiled, "impact", "gold.dim_subscriptions.status", "--json")
    concerned = {row["table"]: row for row in map(json.loads, answer.splitlines())}
    assert concerned["gold.fct_subscription_days"]["rows"] == ["which there are"]
    impact = ask(compiled, "impact", "silver_retail__transactions.sales_value")
    assert "exposure sales_dashboard" in impact
    assert "gold.dim_products" not in impact
    outside = "postgres://127.0.0.1:54329/postgres.app.users"
    assert "gold.dim_users" in ask(compiled, "downstream", outside)
    assert ask(compiled, "upstream", "gold.dim_dates.day_name") == "Nothing: it is made here.\n"
    assert "There is no table gold.none" in ask(compiled, "impact", "gold.none", code=1)
    assert "has no column none; it has" in ask(compiled, "impact", "gold.dim_users.none", code=1)


def test_the_page_has_it_all(compiled: Lakehouse, tmp_path: Path) -> None:
    file = tmp_path / "new" / "lineage.html"
    ask(compiled, "page", "--out", str(file))
    html = file.read_text("utf-8")
    code = re.sub(r'<script type="application/json".*?</script>', "", html, flags=re.DOTALL)
    assert re.findall(r"src=|url\(|@import|fetch\(", code) == []  # nothing is loaded
    graph = project_graph(compiled)
    graph.tables["gold.dim_users"].description = "</script><b>&DATA"
    data = r'<script type="application/json" id="data">(.*?)</script>'
    (found,) = re.findall(data, page(graph), re.DOTALL)
    content = json.loads(found)
    assert content["gold.dim_users"]["description"] == "</script><b>&DATA"
    assert list(content) == list(graph.tables)
    assert content["silver.saas__user_changes"]["columns"]["email"] == [
        ["bronze.saas__users", "_record.after.email", "changed"],
        ["bronze.saas__users", "_record.before.email", "changed"],
        ["bronze.saas__users", "_record.op", "deciding"],
    ]
    assert ask(compiled, "page", "--out", str(tmp_path), code=1).startswith("Error: ")


def test_spark_says_the_same(
    spark: None,  # noqa: ARG001
    compiled: Lakehouse,
    tmp_path: Path,
) -> None:
    lakehouse = Lakehouse(tmp_path, {"LAKEBED_DOMAINS": "saas"})
    lakehouse.run("lakebed", "lineage", "check", "--target", "spark_local")
    here, there = project_graph(compiled), project_graph(lakehouse)
    assert list(here.tables) == list(there.tables)
    for name, table in here.tables.items():
        if table.kind == "outside":
            continue
        for column, made_of in table.columns.items():
            values = {(o.table, o.column) for o in made_of if o.how.name != "deciding"}
            others = {
                (o.table, o.column)
                for o in there.tables[name].columns[column]
                if o.how.name != "deciding"
            }
            assert values == others, (name, column)


def test_a_run_of_dbt_is_told(tmp_path: Path, receiver: Receiver) -> None:
    lakehouse = Lakehouse(tmp_path)
    lakehouse.land("--until", "2017-01-03", "--promotion-weeks", "1")
    lakehouse.env["OPENLINEAGE_URL"] = receiver.url
    lakehouse.dbt("build")
    events = receiver.take()
    well_formed(events)
    jobs = Counter(event["job"]["name"] for event in events)
    assert jobs["dbt.build"] == 2
    assert jobs["dbt.fct_sales_lines"] == 2
    assert {event["eventType"] for event in events} == {"START", "COMPLETE"}
    assert roots(events, "gold.agg_daily_sales", "sales_value") == {
        ("file landing/retail/transactions", "sales_value"),
        ("file landing/retail/transactions", "sales_amount"),
    }
    tests = [
        each
        for event in events
        if event["eventType"] == "COMPLETE" and event["job"]["name"].startswith("dbt.test.")
        for each in event["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
    ]
    assert len(tests) > 80
    assert "assert_sales_agree_across_layers" in {each["name"] for each in tests}
    assert all(each["success"] for each in tests)

    # Who does not listen is told later, the same runs; the build is not concerned.
    receiver.status = 503
    lakehouse.env["OPENLINEAGE__TRANSPORT__RETRY__TOTAL"] = "0"
    done = lakehouse.dbt("run", "--select", "silver_retail__transactions+")
    assert "`lakebed lineage emit` sends this run's events again" in done.stderr
    assert receiver.take() == []
    receiver.status = 201
    for _ in range(2):
        assert "events." in lakehouse.run("lakebed", "lineage", "emit").stdout
    again = receiver.take()
    well_formed(again[: len(again) // 2])
    assert again[: len(again) // 2] == again[len(again) // 2 :]
    assert "dbt.fct_baskets" in {event["job"]["name"] for event in again}
    file = tmp_path / "events.ndjson"
    lakehouse.run("lakebed", "lineage", "emit", "--file", str(file))
    assert [json.loads(line) for line in file.read_text("utf-8").splitlines()] == again[
        : len(again) // 2
    ]

    done = lakehouse.run("lakebed", "lineage", "emit", "--file", str(tmp_path), check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    del lakehouse.env["OPENLINEAGE_URL"], lakehouse.env["OPENLINEAGE__TRANSPORT__RETRY__TOTAL"]
    done = lakehouse.run("lakebed", "lineage", "emit", check=False)
    assert "Say where to: OPENLINEAGE_URL" in done.stderr
    lakehouse.dbt("run", "--select", "dim_stores")  # without settings nothing is told
    assert receiver.take() == []
    lakehouse.env["OPENLINEAGE_URL"] = receiver.url

    # A model that fails, and why; what came after it was skipped and did not run.
    with duckdb.connect() as lake:
        load_extensions(lake)
        lake.execute(f"attach 'ducklake:{tmp_path}/lake/catalog.ducklake' as lake")
        lake.execute("drop table lake.silver.retail__products")
    lakehouse.dbt("run", "--select", "dim_products+", check=False)
    failed = {e["job"]["name"]: e for e in receiver.take() if e.get("eventType") == "FAIL"}
    assert set(failed) == {"dbt.run", "dbt.dim_products"}
    message = failed["dbt.dim_products"]["run"]["facets"]["errorMessage"]["message"]
    assert "retail__products" in message


def test_the_sidecar_is_told_and_columns_come_from_the_database(
    tmp_path: Path, receiver: Receiver
) -> None:
    need_capture()
    source = Postgres(tmp_path / "pg")
    source.start()
    business = Business(tmp_path, source)
    business.lakehouse.env["OPENLINEAGE_URL"] = receiver.url
    try:
        assert business.live("2023-12-31").wait() == 0
        business.capture()
        (begun, ended) = receiver.take()
        well_formed([begun, ended])
        assert begun["job"]["name"] == "stream.saas"
        place = f"postgres://127.0.0.1:{source.port}"
        assert {each["name"] for each in begun["inputs"]} == {
            f"postgres.app.{table}"
            for table in ("users", "plans", "subscriptions", "payments", "outbox")
        }
        assert {each["namespace"] for each in begun["inputs"]} == {place}
        assert "bronze.saas__users" in {each["name"] for each in ended["outputs"]}

        assert business.live("2024-01-05").wait() == 0
        business.capture("--once", "--build", "run")  # dbt in a process that stays
        events = receiver.take()
        well_formed(events)
        assert roots(events, "gold.dim_users", "email") == {
            (f"{place} postgres.app.users", "email")
        }
        assert roots(events, "gold.agg_daily_mrr", "closing_mrr") == {
            (f"{place} postgres.app.subscriptions", "monthly_amount")
        }

        source.stop()
        business.lakehouse.run(
            "lakebed", "capture", "streams/saas.yml", "--once", "--patience", "0", check=False
        )
        begun, ended = receiver.take()
        assert ended["eventType"] == "FAIL"
        assert "does not answer" in ended["run"]["facets"]["errorMessage"]["message"]
    finally:
        source.stop()
