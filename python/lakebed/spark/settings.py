"""The settings that a Spark session needs for a lake; a user's own in profiles.yml win."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lakebed.errors import UserError
from lakebed.spark.jars import S3, S3_EXCLUSIONS, fetch, fetch_packages, known_format
from lakebed.store import filesystem, is_object_store, spark_settings

OLDEST_JAVA = 17
NOT_INSTALLED = "Spark is not installed: pip install 'lakebed[spark]'."


#: In the lake's folder: the format of its tables.
FORMAT_FILE = "table_format"
#: What `spark.sql.catalog.spark_catalog` is for each format.
CATALOGUES = {
    "delta": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "iceberg": "org.apache.iceberg.spark.SparkSessionCatalog",
}


#: Iceberg's tables as they are: a session keeps them as it saw them first, for half a minute, and a
#: sink would not see what another one has committed. (A build's session does keep them: it sees one
#: version of a table from a statement's beginning to its end.)
UNCACHED = {"spark.sql.catalog.spark_catalog.cache-enabled": "false"}


def table_format() -> str:
    """The format of new tables on Spark: LAKEBED_TABLE_FORMAT, else delta."""
    return known_format(os.environ.get("LAKEBED_TABLE_FORMAT") or "delta")


def format_of_lake(home: Path, wanted: str | None = None) -> str:
    """The format of the lake below `home`, which the first one to open it chooses for good.

    `wanted` is a format that was asked for; without one the lake's own is taken. Raises UserError
    when the lake has another one: a lake of both would be of use to nobody.
    """
    file = home / FORMAT_FILE
    wanted = wanted or os.environ.get("LAKEBED_TABLE_FORMAT") or None
    if file.is_file():
        there = file.read_text(encoding="utf-8").strip()
    else:
        # A lake from before there was a choice.
        there = "delta" if (home / "metastore").is_dir() else known_format(wanted or "delta")
        home.mkdir(parents=True, exist_ok=True)
        file.write_text(there + "\n", encoding="utf-8")
    if wanted and known_format(wanted) != there:
        raise other_format(f"The lake in {home}", there, wanted)
    return there


def other_format(where: str, there: str, wanted: str) -> UserError:
    """What to say when a lake of one format is opened for another."""
    return UserError(
        f"{where} holds {there} tables, and the build is for {wanted}. Build with "
        f"LAKEBED_TABLE_FORMAT={there}, or choose another LAKEBED_HOME."
    )


def spark_home() -> Path:
    """The folder of the lake's tables on Spark, and of its metastore."""
    return Path(os.environ.get("LAKEBED_HOME") or "data/lake") / "spark"


def warehouse(home: Path) -> str:
    """Where the files of tables are: LAKEBED_STORE/spark/warehouse, else below `home`."""
    if place := os.environ.get("LAKEBED_STORE"):
        return f"{place}/spark/warehouse"
    return str(home / "warehouse")


def spark_jars(table_format: str, place: str = "") -> str:
    """The jars of a table format, and of the store that `place` is in, as the setting `spark.jars`
    wants them. Raises UserError."""
    found = fetch(table_format)
    if is_object_store(place):
        found = found + fetch_packages(S3, "s3", S3_EXCLUSIONS)
    return ",".join(map(str, found))


def session_settings(home: Path, table_format: str | None = None) -> dict[str, str]:
    """Spark's settings for a lake below `home`, in a session of this process.

    Raises UserError when Java is missing or too old, the jars cannot be had, or the lake is of
    another format.
    """
    check_java()
    home = home.resolve()
    table_format = format_of_lake(home, table_format)
    return {
        "spark.master": "local[*]",
        "spark.jars": spark_jars(table_format, warehouse(home)),
        "spark.driver.memory": "3g",
        "spark.ui.showConsoleProgress": "false",
        **driver_settings(home),
        **lake_settings(home, table_format),
    }


def session(home: Path) -> Any:
    """The Spark session of this process, on the lake below `home`. Raises UserError."""
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise UserError(NOT_INSTALLED) from error

    builder = SparkSession.builder.enableHiveSupport()
    for name, value in session_settings(home).items():
        builder = builder.config(name, value)
    # A Connect session leaves this behind, and pyspark then wants no session but such a one.
    os.environ.pop("SPARK_CONNECT_MODE_ENABLED", None)
    return builder.getOrCreate()


def connect_url() -> str:
    """Where Spark Connect answers: LAKEBED_SPARK_CONNECT, else this machine."""
    return os.environ.get("LAKEBED_SPARK_CONNECT") or "sc://127.0.0.1:15002"


@contextmanager
def connect_session(url: str | None = None) -> Iterator[Any]:
    """A new session on a cluster by Spark Connect: `url`, else that of connect_url.

    New, since pyspark's `getOrCreate` gives the session there is, whatever its cluster.
    """
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.remote(url or connect_url())
    session = builder.config(map={**value_settings(), **UNCACHED}).create()
    try:
        yield session
    finally:
        session.stop()
        # pyspark closes it again when it is collected, and ends threads that all sessions share:
        # now and then in one of these threads, which then waits for itself.
        session.client.close = lambda: None


def driver_settings(home: Path) -> dict[str, str]:
    """What keeps a driver small and honest, however long it runs."""
    return {
        "spark.app.name": "lakebed",
        # Below that, logs have the values of filters, and Delta's of what is in files: erasure
        # could not take them back.
        "spark.log.level": "ERROR",
        "spark.driver.extraJavaOptions": (
            # A driver without memory must end, and be seen to; it would wait for ever else.
            f"-XX:+ExitOnOutOfMemoryError -Dderby.system.home={home} -Duser.timezone=UTC"
        ),
        "spark.ui.enabled": "false",
        # Kept for a web page that is off: plans of hundreds of lines, by the thousand.
        "spark.sql.maxPlanStringLength": "10000",
        "spark.sql.ui.retainedExecutions": "10",
        "spark.sql.thriftServer.ui.retainedStatements": "10",
        "spark.sql.thriftServer.ui.retainedSessions": "10",
        "spark.ui.retainedJobs": "50",
        "spark.ui.retainedStages": "50",
        "spark.ui.retainedTasks": "1000",
        # A build has hundreds of statements, of few forms; of 100 the next build finds none.
        "spark.sql.codegen.cache.maxEntries": "1000",
        # A laptop's tables are small: 200 partitions would be 200 tiny tasks.
        "spark.sql.shuffle.partitions": "4",
        # And VACUUM lists the folders of a table with 10,000 tasks, each with a file of its own.
        "spark.sql.sources.parallelPartitionDiscovery.parallelism": "8",
    }


def lake_settings(home: Path, table_format: str) -> dict[str, str]:
    """What makes tables of a format, with the values that DuckDB has too."""
    formats = {
        "delta": {
            "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
            "spark.databricks.delta.snapshotPartitions": "1",
            # Answering max(a date) from metadata fails behind the Thrift server (delta issue 4201).
            "spark.databricks.delta.optimizeMetadataQuery.enabled": "false",
        },
        "iceberg": {
            "spark.sql.extensions": (
                "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
            ),
            # Wraps the metastore there is: views, and tables of other kinds, stay what they are.
            "spark.sql.catalog.spark_catalog.type": "hive",
            # Derby's metastore has no locks. One driver holds it, and one build writes a table.
            "spark.hadoop.iceberg.engine.hive.lock-enabled": "false",
            # Tables that are partitioned alike are joined bucket by bucket, without a shuffle:
            # Iceberg tells Spark of its partitions, and Spark makes use of it; also when one of
            # the tables has no rows in some, and when the join has more columns than those.
            "spark.sql.iceberg.planning.preserve-data-grouping": "true",
            "spark.sql.sources.v2.bucketing.enabled": "true",
            "spark.sql.sources.v2.bucketing.pushPartValues.enabled": "true",
            "spark.sql.requireAllClusterKeysForCoPartition": "false",
        },
    }
    place = warehouse(home)
    return {
        **formats[table_format],
        **(spark_settings(place) if is_object_store(place) else {}),
        "spark.sql.catalog.spark_catalog": CATALOGUES[table_format],
        "spark.sql.warehouse.dir": place,
        "spark.hadoop.javax.jdo.option.ConnectionURL": (
            f"jdbc:derby:;databaseName={home / 'metastore'};create=true"
        ),
        **value_settings(),
    }


def value_settings() -> dict[str, str]:
    """What gives values their meaning; a session may set it on a cluster that is not ours."""
    return {
        "spark.sql.session.timeZone": "UTC",
        # An overflow or a text that is no number is an error, never a silent NULL.
        "spark.sql.ansi.enabled": "true",
    }


def remove_torn_tables(home: Path) -> None:
    """Folders of Delta tables that a killed driver began and never committed.

    Delta refuses to make a table where such a folder is. Call it only when this driver holds the
    metastore: another's table may be about to be committed. Raises UserError when the tables
    cannot be listed.
    """
    from pyarrow.fs import FileSelector, FileType

    files, root = filesystem(warehouse(home))

    def listed(folder: str) -> list[Any]:
        return list(files.get_file_info(FileSelector(folder, allow_not_found=True)))

    try:
        for schema in listed(root):
            for table in listed(schema.path) if schema.path.endswith(".db") else []:
                log = f"{table.path}/_delta_log"
                begun = files.get_file_info(log).type is FileType.Directory
                if begun and not any(each.extension in ("json", "parquet") for each in listed(log)):
                    files.delete_dir(table.path)
    except OSError as error:
        raise UserError(f"The tables in {warehouse(home)} cannot be listed: {error}") from error


def check_java() -> None:
    """Raises UserError unless there is a Java that Spark, and the Debezium engine, run on."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home) / "bin" / "java") if home else shutil.which("java")
    if java is None or not Path(java).exists():
        raise UserError(
            f"Java {OLDEST_JAVA} or later is needed, and there is none: install a JDK, or set "
            "JAVA_HOME."
        )
    done = subprocess.run([java, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', done.stderr)
    if version is None or int(version[1]) < OLDEST_JAVA:
        # What it has picked up from JAVA_TOOL_OPTIONS is said first.
        lines = [line for line in done.stderr.splitlines() if not line.startswith("Picked up ")]
        found = lines[0].rstrip(".") if lines else "nothing"
        raise UserError(f"Java {OLDEST_JAVA} or later is needed; {java} says: {found}.")
