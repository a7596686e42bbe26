"""How tables lie in their files: partitions, what a query reads, joins that need no shuffle."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from harness import ROOT, UPSERT_STRATEGY, DbtProject, Run
from lakebed.spark.cluster import Cluster
from lakebed.spark.settings import connect_session

PROVES = [
    "pat-partitioning-strategies",
    "pat-join-broadcast",
    "pat-join-bucketed",
]

DISPATCH = {
    "dispatch": [{"macro_namespace": "dbt", "search_order": ["lakebed_test", "lakebed", "dbt"]}]
}
SPARK = pytest.mark.spark
#: What a project that installs Lakebed has to copy to clone Iceberg tables.
SPARK_CLONE = ROOT / "macros" / "engine" / "spark_clone.sql"


@pytest.fixture(
    scope="module",
    params=["duckdb", pytest.param("delta", marks=SPARK), pytest.param("iceberg", marks=SPARK)],
)
def lake(request: pytest.FixtureRequest) -> Cluster | None:
    """Each format in turn: None is DuckLake."""
    fixtures = {"delta": "cluster", "iceberg": "iceberg_cluster"}
    if request.param == "duckdb":
        return None
    cluster: Cluster = request.getfixturevalue(fixtures[request.param])
    return cluster


def format_of(lake: Cluster | None) -> str:
    return lake.table_format if lake else "ducklake"


def read(project: DbtProject, sql: str) -> int:
    """What the engine's own plan says a query reads: files, on Iceberg the rows in them."""
    if not project.cluster:
        ((_, plan),) = project.query(f"explain (analyze, format json) {sql}")
        return sum(map(int, re.findall(r'"Total Files Read": "(\d+)"', plan)))
    with connect_session(project.cluster.connect_url) as session:
        session.sql(f"use {project.schema}")
        if project.cluster.table_format == "delta":
            return len(session.sql(sql).inputFiles())
        plan = session.sql(f"explain cost {sql}").collect()[0][0]
        scan = re.search(r"RelationV2\[.*rowCount=([^)]+)\)", plan)
        assert scan, plan
        return int(float(scan[1]))


def plan_of(project: DbtProject, sql: str) -> str:
    """The operators of Spark's plan, as if both tables were too large to be broadcast."""
    assert project.cluster
    with connect_session(project.cluster.connect_url) as session:
        session.sql(f"use {project.schema}")
        session.conf.set("spark.sql.autoBroadcastJoinThreshold", "-1")
        plan: str = session.sql(f"explain formatted {sql}").collect()[0][0]
        return plan.split("\n\n")[0]


#: Two years, four hours between lines, in no order; `moved` days later than they were first said.
LINES = """
select
    cast(i as bigint) as line_id,
    cast(i % 50 as bigint) as household_id,
    {{ lakebed.add_dateparts(
        'hour', '4 * ((i * 1009) % 4000) + 24 * MOVED', "timestamp '2020-01-01 00:00:00'"
    ) }} as sold_at
from range(0, COUNT) as r(i)
"""
SALES = """
{{ config(materialized='incremental', CONFIG) }}
select *, cast(extract(year from sold_at) * 100 + extract(month from sold_at) as int) as sale_month
from {{ ref('lines') }}
"""
APPENDED = (
    SALES
    + "{% if is_incremental() %}where line_id > (select max(line_id) from {{ this }}){% endif %}"
)
MICROBATCH = (
    "incremental_strategy='microbatch', event_time='sold_at', batch_size='month',"
    " begin='2020-01-01', lookback=0"
)
UPSERTED = f"""
{SALES.split("select *")[0]}
with sales as (select * {SALES.split("select *")[1]})
{{{{ lakebed.upsert_source('sales') }}}}
"""
UPSERT = (
    "incremental_strategy='upsert', unique_key='line_id', meta={'upsert': {'version': 'sold_at'}}"
)
LINES_YML = """
version: 2
models: [{name: lines, config: {event_time: sold_at, materialized: table}}]
"""
TIME = "sold_at >= timestamp '2020-05-01 00:00:00' and sold_at < timestamp '2020-06-01 00:00:00'"
#: The same for all engines but Delta, which partitions by columns only; and a query for a month.
BY_MONTH = {"ducklake": "month(sold_at)", "delta": "sale_month", "iceberg": "month(sold_at)"}
MAY = {"ducklake": TIME, "delta": "sale_month = 202005", "iceberg": TIME}


def lines(count: int, moved: int) -> str:
    return LINES.replace("COUNT", str(count)).replace("MOVED", str(moved))


def true_sales(first: int, last: int, moved: int) -> list[tuple[int, int, datetime, int]]:
    found = []
    for i in range(first, last):
        at = datetime(2020, 1, 1) + timedelta(hours=4 * ((i * 1009) % 4000) + 24 * moved)
        found.append((i, i % 50, at, at.year * 100 + at.month))
    return found


@pytest.mark.soak_on("delta")
def test_partitions(lake: Cluster | None, tmp_path: Path) -> None:
    """Appends, microbatches and upserts keep the partitions, and the rows are as without."""
    kind = format_of(lake)
    by = f"partition_by=['{BY_MONTH[kind]}']"
    laid = APPENDED.replace("CONFIG", f"incremental_strategy='append', {by}")
    project = DbtProject(
        tmp_path / "project",
        {
            "macros/upsert.sql": UPSERT_STRATEGY,
            "models/lines.yml": LINES_YML,
            "models/lines.sql": lines(2000, 0),
            "models/plain.sql": APPENDED.replace("CONFIG", "incremental_strategy='append'"),
            "models/laid.sql": laid,
            "models/relaid.sql": laid,
            "models/batched.sql": SALES.replace("CONFIG", f"{MICROBATCH}, {by}"),
            "models/upserted.sql": UPSERTED.replace("CONFIG", f"{UPSERT}, {by}"),
        },
        cluster=lake,
        config=DISPATCH,
    )
    span = ("--event-time-start", "2020-05-01", "--event-time-end", "2020-07-01")
    assert "is partitioned by" not in project.run("run", *span).log
    # Twice as many lines, and each a month later: it moves to another partition.
    project.write("models/lines.sql", lines(4000, 31))
    other = "household_id" if kind == "delta" else "bucket(4, household_id)"
    project.write("models/relaid.sql", laid.replace(by, f"partition_by=['{other}']"))
    second = project.run("run", *span)
    assert second.log.count("is partitioned by") == 1

    def rows(table: str) -> list[tuple[Any, ...]]:
        return sorted(
            project.query(f"select line_id, household_id, sold_at, sale_month from {table}")
        )

    appended = true_sales(0, 2000, 0) + true_sales(2000, 4000, 31)
    moved = true_sales(0, 4000, 31)
    assert rows("plain") == rows("laid") == appended
    assert rows("batched") == [row for row in moved if row[3] in (202005, 202006)]
    assert rows("upserted") == moved

    month = f"select * from {{}} where {MAY[kind]}"
    whole = "select * from {} where line_id >= 0"
    in_may = [row for row in appended if row[3] == 202005]
    assert len(project.query(month.format("laid"))) == len(in_may)
    everything = read(project, whole.format("plain"))
    assert read(project, month.format("plain")) == everything
    if kind == "iceberg":
        assert everything == 4000
        assert read(project, month.format("laid")) == len(in_may)
    else:
        # One file for each append that has rows of the month, whatever wrote them.
        assert read(project, month.format("laid")) == 2
        months = len({(row[0] < 2000, row[3]) for row in appended})
        assert read(project, whole.format("laid")) == months > 40
    for table in ("batched", "upserted"):
        # Two months, of 31 and 30 days.
        assert read(project, month.format(table)) <= read(project, whole.format(table)) * 0.6

    # The other declaration was noticed; a full refresh follows it.
    assert f"{project.schema}.relaid is partitioned by (" in second.log
    assert "dbt build --full-refresh --select relaid" in second.log
    assert rows("relaid") == appended
    third = project.run("run", "--select", "relaid", "--full-refresh")
    assert "is partitioned by" not in third.log
    assert rows("relaid") == moved
    one = "select * from relaid where household_id = 7"
    assert read(project, one) <= read(project, whole.format("relaid")) / 2


REFUSED = {
    "nosuch": "has no column 'nosuch' to partition by; it has line_id",
    "decade(sold_at)": "there is no transform decade; there are year, month,",
    "month(line_id)": "cannot be partitioned by month(line_id): the column is of type",
    "bucket(line_id)": "write bucket(16, column), with a whole number above 0",
    "bucket(0, line_id)": "write bucket(16, column), with a whole number above 0",
    "month(3, sold_at)": "month takes a column only",
    "month(sold_at), line_id": "is no column, and no transform of one",
    "year(sold_at)', 'month(sold_at)": "two transforms of the time sold_at; the finer",
}
#: What one format cannot do; where it can, the plans of the others show it.
UNKNOWN = {
    "ducklake": {"truncate(10, line_id)": "DuckLake has no truncate(10, line_id), which"},
    "delta": {
        text: f"Delta partitions by columns, and has no {text}, which partition_by of"
        for text in ("month(sold_at)", "bucket(4, line_id)")
    },
    "iceberg": {},
}
DONE = {
    "ducklake": [
        "hour(sold_at)",
        "year(sold_at)",
        "days(sold_at)', 'bucket(4, line_id)",
        "line_id",
    ],
    "delta": ["household_id"],
    "iceberg": ["hours(sold_at)", "year(sold_at)", "truncate(10, line_id)", "line_id"],
}


JOINED = """
{{ config(materialized='view') }}
select baskets.n, products.name from {{ ref('baskets') }} as baskets
left join PRODUCTS as products on baskets.product_id = products.product_id
"""
HINTED = JOINED.replace("PRODUCTS", "{{ lakebed.broadcast(ref('unlike'), max_mb=MB) }}")
PRODUCTS = """
{{ config(materialized='table', CONFIG) }}
select cast(i as bigint) as product_id, concat('p', i) as name from range(0, COUNT) as r(i)
"""
BASKETS = """
{{ config(materialized='table', CONFIG) }}
select cast(i as bigint) as n, cast(i % 100 as bigint) as product_id from range(0, 20000) as r(i)
"""


def products(count: int, config: str) -> str:
    return PRODUCTS.replace("COUNT", str(count)).replace("CONFIG", config)


def exchanges(plan: str) -> int:
    """Shuffles; a broadcast is none."""
    return len(re.findall(r"\bExchange\b", plan))


KEPT = """
{{ config(materialized='incremental', incremental_strategy='append',
          grants={'select': ['somebody']}) }}
select cast(1 as int) as id
"""

BY = """
{{ config(materialized='table', partition_by=['CONFIG']) }}
select cast(1 as bigint) as line_id, cast(2 as int) as household_id,
    timestamp '2020-01-01 10:00:00' as sold_at
"""


#: 6 MB that no codec makes smaller than half.
SIZED = """
{{ config(materialized='table', meta={'maintain': {'target_mb': 1}}) }}
select md5(cast(i as string)) as text from range(0, 200000) as r(i)
"""


@pytest.fixture(scope="module")
def built(lake: Cluster | None, tmp_path_factory: pytest.TempPathFactory) -> tuple[DbtProject, Run]:
    """One project for the tests below, and its run; some of its models fail."""
    kind = format_of(lake)
    alike = "partition_by='bucket(8, product_id)'" if kind != "delta" else "tags=['x']"
    files = {
        "models/kept.sql": KEPT,
        "models/baskets.sql": BASKETS.replace("CONFIG", alike),
        "models/alike.sql": products(90, alike),
        "models/few.sql": products(3, alike),
        "models/unlike.sql": products(90, "tags=['x']"),
        "models/a_view.sql": "{{ config(materialized='view') }} select * from {{ ref('few') }}",
        "models/sized.sql": SIZED,
        "models/hinted.sql": HINTED.replace("MB", "1"),
        "models/unhinted.sql": JOINED.replace("PRODUCTS", "{{ ref('unlike') }}"),
        "models/too_large.sql": HINTED.replace("MB", "0.0001"),
        "models/of_a_view.sql": HINTED.replace("MB", "1").replace("'unlike'", "'a_view'"),
        "macros/spark_clone.sql": SPARK_CLONE.read_text("utf-8") if lake else "",
    }
    for name, declared in (("refused", {**REFUSED, **UNKNOWN[kind]}), ("done", DONE[kind])):
        for number, by in enumerate(declared):
            files[f"models/{name}_{number}.sql"] = BY.replace("CONFIG", by)
    folder = tmp_path_factory.mktemp("layout") / "project"
    project = DbtProject(folder, files, cluster=lake, config=DISPATCH)
    return project, project.run("run", check=False)


def test_what_is_refused(lake: Cluster | None, built: tuple[DbtProject, Run]) -> None:
    """A mistake is one line, and nothing is written; what an engine knows, it takes."""
    project, done = built
    kind = format_of(lake)
    for number, (by, message) in enumerate({**REFUSED, **UNKNOWN[kind]}.items()):
        node = done.nodes[f"refused_{number}"]
        assert node.status == "error", by
        assert message in str(node.message).splitlines()[1], (by, node.message)
    for number, by in enumerate(DONE[kind]):
        assert done.nodes[f"done_{number}"].status == "success", (by, done.log)
    assert "Traceback" not in done.log
    tables = {str(name) for row in project.query("show tables") for name in row}
    assert "done_0" in tables
    assert not [name for name in tables if name.startswith("refused")]


def test_broadcast(lake: Cluster | None, built: tuple[DbtProject, Run]) -> None:
    """A hint broadcasts, and a guard refuses what is too large or of unknown size."""
    project, done = built
    for name, message in (
        ("too_large", "MB in its files, and broadcast takes up to 0.0001: join without it"),
        ("of_a_view", "a_view is a view, whose size nobody knows"),
    ):
        assert message in str(done.nodes[name].message).splitlines()[1]
    hinted, unhinted = (project.compiled(f"models/{n}.sql") for n in ("hinted", "unhinted"))
    rows = sorted(project.query(unhinted), key=repr)
    assert sorted(project.query(hinted), key=repr) == rows
    assert len(rows) == 20000
    if lake:
        assert exchanges(plan_of(project, unhinted)) > 0
        assert "SortMergeJoin" in plan_of(project, unhinted)
        assert exchanges(plan_of(project, hinted)) == 0
        assert "BroadcastHashJoin" in plan_of(project, hinted)
    else:
        assert hinted == unhinted


def test_tables_bucketed_alike(lake: Cluster | None, built: tuple[DbtProject, Run]) -> None:
    """Iceberg joins them without a shuffle; on DuckLake a value on one side leaves out files of
    both; Delta has no buckets (test_what_is_refused).
    """
    project, _ = built
    inner = "select n, name from baskets inner join {0} on baskets.product_id = {0}.product_id"
    for name, found in (("alike", 18000), ("few", 600), ("unlike", 18000)):
        assert len(project.query(inner.format(name))) == found
    if format_of(lake) == "iceberg":
        assert exchanges(plan_of(project, inner.format("alike"))) == 0
        # `few` has no rows in some buckets.
        assert exchanges(plan_of(project, inner.format("few"))) == 0
        assert exchanges(plan_of(project, inner.format("unlike"))) > 0
    elif lake is None:
        assert read(project, inner.format("alike")) == 16
        assert read(project, inner.format("alike") + " where alike.product_id = 7") == 2


def test_size_of_files(lake: Cluster | None, built: tuple[DbtProject, Run]) -> None:
    """Iceberg cuts files as it writes them; on the others `optimize` does (test_storage.py)."""
    project, done = built
    assert done.nodes["sized"].status == "success"
    if format_of(lake) == "iceberg":
        ((files, largest),) = project.query(
            f"select count(*), max(file_size_in_bytes) from {project.schema}.sized.files"
        )
        assert files >= 3
        assert largest < 2_000_000


def test_grants(lake: Cluster | None, built: tuple[DbtProject, Run]) -> None:
    """What an engine lacks is one line, and the build goes on."""
    project, done = built
    said = "Grants for relations are not supported by DuckDB"
    if lake:
        said = f"the grants of {project.schema}.kept are not made: this Spark has no GRANT"
    assert said in done.log
    assert done.nodes["kept"].status == "success"


@pytest.mark.soak
def test_clones(lake: Cluster | None, built: tuple[DbtProject, Run]) -> None:
    """A clone can be built on, and its original stays."""
    project, _ = built
    kind = format_of(lake)
    original = project.schema
    dev = f"dev_{original}"
    shutil.copytree(project.folder / "target", project.folder / "production")
    profile = (project.folder / "profiles.yml").read_text("utf-8")
    project.write("profiles.yml", profile.replace(f"schema: {original}", f"schema: {dev}"))
    try:
        project.run("clone", "--state", "production", "--select", "kept")
        assert project.query(f"select id from {dev}.kept") == [(1,)]
        if kind == "delta":
            assert lake
            with connect_session(lake.connect_url) as session:
                (file,) = session.table(f"{dev}.kept").inputFiles()
            assert f"/{original}.db/kept/" in file  # no row was copied
        project.run("run", "--select", "kept")
        # A clone is added to; a view gives way to a table of its own.
        expected = 2 if kind == "delta" else 1
        assert len(project.query(f"select id from {dev}.kept")) == expected
        assert project.query(f"select id from {original}.kept") == [(1,)]
    finally:
        project.write("profiles.yml", profile)
