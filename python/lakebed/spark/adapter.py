"""What dbt-spark lacks on open-source Spark: settings for a lake, and Python models in the session.

dbt-spark runs Python models on Databricks only (dbt-labs/dbt-adapters, issues 366 and 411).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from dbt.adapters.base import PythonJobHelper
from dbt.adapters.spark.connections import SparkConnectionManager, SparkConnectionMethod
from dbt.adapters.spark.impl import SparkAdapter
from dbt_common.exceptions import DbtRuntimeError

from lakebed.errors import UserError
from lakebed.spark.settings import session_settings


def extend() -> None:
    """Extend the adapter's classes, once."""
    if getattr(SparkAdapter, "_extended_by_lakebed", False):
        return
    SparkAdapter._extended_by_lakebed = True
    helpers = SparkAdapter.python_submission_helpers.fget
    SparkAdapter.python_submission_helpers = property(
        lambda self: {**helpers(self), "session": SessionPythonJob}
    )
    default = SparkAdapter.default_python_submission_method.fget
    SparkAdapter.default_python_submission_method = property(
        lambda self: "session" if _in_process(self.config.credentials) else default(self)
    )
    opened = SparkConnectionManager.open.__func__
    SparkConnectionManager.open = classmethod(
        lambda cls, connection: opened(cls, _with_settings(connection))
    )


def _in_process(credentials: Any) -> bool:
    return bool(credentials.method == SparkConnectionMethod.SESSION)


def _with_settings(connection: Any) -> Any:
    """Ours below those of profiles.yml; a profile that names its own jars gets none of ours."""
    credentials = connection.credentials
    if _in_process(credentials) and "spark.jars" not in credentials.server_side_parameters:
        home = Path(os.environ.get("LAKEBED_HOME") or "data/lake") / "spark"
        try:
            settings = session_settings(home)
        except UserError as error:
            raise DbtRuntimeError(str(error)) from error
        credentials.server_side_parameters = {**settings, **credentials.server_side_parameters}
    return connection


class SessionPythonJob(PythonJobHelper):  # type: ignore[misc]
    """Runs the code of a Python model in the session that dbt runs SQL in."""

    def __init__(self, parsed_model: dict[str, Any], _credentials: Any) -> None:
        self.name = parsed_model["name"]

    def submit(self, compiled_code: str) -> None:
        from pyspark.sql import SparkSession

        spark = SparkSession.builder.getOrCreate()  # the one there is: dbt's
        code = compile(compiled_code, f"<model {self.name}>", "exec")
        exec(code, {"spark": spark, "__name__": f"dbt_model_{self.name}"})
