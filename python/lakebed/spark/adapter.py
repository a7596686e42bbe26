"""What dbt-spark lacks on open-source Spark: settings for a lake, and Python models in the session.

dbt-spark runs Python models on Databricks only (dbt-labs/dbt-adapters, issues 366 and 411).
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from dbt.adapters.base import PythonJobHelper
from dbt.adapters.spark.connections import SparkConnectionManager, SparkConnectionMethod
from dbt.adapters.spark.impl import SparkAdapter
from dbt_common.exceptions import DbtRuntimeError

from lakebed.erase.hashing import spark_settings
from lakebed.errors import UserError
from lakebed.spark.cluster import running
from lakebed.spark.settings import (
    connect_session,
    session_settings,
    spark_home,
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
        lambda cls, connection: opened(cls, _with_settings(connection))
    )


_SUBMISSION = {SparkConnectionMethod.SESSION: "session", SparkConnectionMethod.THRIFT: "connect"}


def _with_settings(connection: Any) -> Any:
    """Ours below those of profiles.yml; a profile that names its own jars gets none of ours."""
    credentials = connection.credentials
    settings: dict[str, str] = {}
    if credentials.method == SparkConnectionMethod.THRIFT:
        settings = value_settings()
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
            settings = session_settings(home)
        except UserError as error:
            raise DbtRuntimeError(str(error)) from error
    credentials.server_side_parameters = {
        **settings,
        **spark_settings(),
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
