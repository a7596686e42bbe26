"""What dbt-spark lacks on open-source Spark: settings for a lake, and Python models in the session.

dbt-spark runs Python models on Databricks only (dbt-labs/dbt-adapters, issues 366 and 411).
"""

from __future__ import annotations

import os
import re
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from dbt.adapters.base import PythonJobHelper
from dbt.adapters.spark.connections import SparkConnectionManager, SparkConnectionMethod
from dbt.adapters.spark.impl import SparkAdapter
from dbt_common.exceptions import DbtRuntimeError

from lakebed.erase.hashing import spark_settings
from lakebed.errors import UserError
from lakebed.spark.cluster import running
from lakebed.spark.settings import (
    CATALOGUES,
    connect_session,
    other_format,
    remove_torn_tables,
    session_settings,
    spark_home,
    table_format,
    value_settings,
)


def extend() -> None:
    """Extend the adapter's classes, once."""
    if getattr(SparkAdapter, "_extended_by_lakebed", False):
        return
    SparkAdapter._extended_by_lakebed = True
    helpers = SparkAdapter.python_submission_helpers.fget
    SparkAdapter.python_submission_helpers = property(
        lambda self: {**helpers(self), "session": SessionPythonJob, "connect": ConnectPythonJob}
    )
    default = SparkAdapter.default_python_submission_method.fget
    SparkAdapter.default_python_submission_method = property(
        lambda self: _SUBMISSION.get(self.config.credentials.method) or default(self)
    )
    opened = SparkConnectionManager.open.__func__
    SparkConnectionManager.open = classmethod(
        lambda cls, connection: _checked(opened(cls, _with_settings(connection)))
    )
    _know_iceberg()


def _know_iceberg() -> None:
    """Hive's metastore calls an Iceberg table's provider `hive`, which dbt-spark takes for no table
    that a snapshot can be merged into (dbt-labs/dbt-adapters#489)."""
    informed = SparkAdapter._get_relation_information

    def information(self: Any, row: Any) -> Any:
        schema, name, text = informed(self, row)
        if _ICEBERG.search(text):
            text = text.replace("Provider: hive", "Provider: iceberg", 1)
        return schema, name, text

    SparkAdapter._get_relation_information = information


_ICEBERG = re.compile(r"\btable_type=ICEBERG[,\]]")


def _checked(connection: Any) -> Any:
    """A cluster of the other format is refused before anything is written to it."""
    if _own_sessions and connection.credentials.method == SparkConnectionMethod.SESSION:
        connection.handle.cursor().execute("show schemas")  # fails if another holds the metastore
        try:
            remove_torn_tables(_own_sessions.pop())
        except UserError as error:
            raise DbtRuntimeError(str(error)) from error
    if connection.credentials.method == SparkConnectionMethod.THRIFT:
        cursor = connection.handle.cursor()  # the handle itself: to close it ends the connection
        cursor.execute("set spark.sql.catalog.spark_catalog")
        found = cursor.fetchall()[0][1]
        try:
            wanted = table_format()
            for there, catalogue in CATALOGUES.items():
                if found == catalogue and there != wanted:
                    raise other_format("The cluster", there, wanted)
        except UserError as error:
            raise DbtRuntimeError(str(error)) from error
    return connection


#: Lakes that a session of this process was opened on, and those not looked at yet.
_seen: set[Path] = set()
_own_sessions: set[Path] = set()

_SUBMISSION = {SparkConnectionMethod.SESSION: "session", SparkConnectionMethod.THRIFT: "connect"}


def _with_settings(connection: Any) -> Any:
    """Ours below those of profiles.yml; a profile that names its own jars gets none of ours."""
    credentials = connection.credentials
    settings: dict[str, str] = {}
    if credentials.method == SparkConnectionMethod.THRIFT:
        # Spark's Thrift server leaves out what does not say how it is to be set.
        settings = {
            f"set:hiveconf:{name}": value
            for name, value in {**value_settings(), **spark_settings()}.items()
        }
    elif credentials.method == SparkConnectionMethod.SESSION:
        if "spark.jars" in credentials.server_side_parameters:
            return connection
        home = spark_home()
        try:
            if running(home):
                raise UserError(
                    f"A cluster holds the lake in {home}: build with `--target spark`, or end it "
                    "with `lakebed spark down`."
                )
            settings = {**session_settings(home, table_format()), **spark_settings()}
            if home not in _seen:
                _seen.add(home)
                _own_sessions.add(home)
        except UserError as error:
            raise DbtRuntimeError(str(error)) from error
    credentials.server_side_parameters = {
        **settings,
        **credentials.server_side_parameters,
    }
    return connection


class SessionPythonJob(PythonJobHelper):  # type: ignore[misc]
    """Runs the code of a Python model in the session that dbt runs SQL in."""

    def __init__(self, parsed_model: dict[str, Any], _credentials: Any) -> None:
        self.name = parsed_model["name"]

    def submit(self, compiled_code: str) -> None:
        # dbt-spark's code imports pandas on Spark, which warns when this is not said.
        os.environ.setdefault("PYARROW_IGNORE_TIMEZONE", "1")
        code = compile(compiled_code, f"<model {self.name}>", "exec")
        with self.session() as spark:
            exec(code, {"spark": spark, "__name__": f"dbt_model_{self.name}"})

    def session(self) -> AbstractContextManager[Any]:
        from pyspark.sql import SparkSession

        return nullcontext(SparkSession.builder.getOrCreate())  # the one there is: dbt's


class ConnectPythonJob(SessionPythonJob):
    """Runs the code here, and its frames on the cluster, by Spark Connect.

    The cluster is LAKEBED_SPARK_CONNECT, e.g. sc://spark.example:15002.
    """

    def session(self) -> AbstractContextManager[Any]:
        return connect_session()
