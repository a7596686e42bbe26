"""The same Python model on both engines: ask with SQL, take pandas, return Arrow.

A model's `session` is a DuckDB connection or a Spark session, and what `dbt.ref` gives is a
DuckDB relation or a Spark frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def rows(session: Any, sql: str) -> list[tuple[Any, ...]]:
    """All rows that a query gives."""
    answer = session.sql(sql)
    found = answer.fetchall() if hasattr(answer, "fetchall") else answer.collect()
    return [tuple(row) for row in found]


def distinct(relation: Any, *columns: str) -> pd.DataFrame:
    """The distinct values of some columns of a `dbt.ref`, as pandas."""
    frame: pd.DataFrame = (
        relation.select(*columns).distinct().toPandas()
        if hasattr(relation, "toPandas")
        else relation.select(", ".join(columns)).distinct().df()
    )
    return frame


def from_arrow(session: Any, table: pa.Table) -> Any:
    """What a Python model may return for an Arrow table."""
    if not hasattr(session, "createDataFrame"):
        return table
    if table.num_rows:
        return session.createDataFrame(table)
    # Spark Connect takes no empty table.
    from pyspark.sql.pandas.types import from_arrow_schema

    return session.createDataFrame([], from_arrow_schema(table.schema))
