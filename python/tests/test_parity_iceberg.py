"""The whole project with Iceberg tables, in two deliveries: the rows of DuckDB."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import FAULTS
from lakebed.parity import compare
from lakehouse import Lakehouse

pytestmark = [pytest.mark.spark, pytest.mark.soak, pytest.mark.timeout(1800)]
PROVES = ["pat-idempotent", "pat-medallion-lakehouse"]

BUILD = ("build", "--exclude", "resource_type:unit_test", "resource_type:test")


@pytest.mark.usefixtures("spark")
def test_every_table_is_the_same_on_iceberg(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lakehouse = Lakehouse(tmp_path)
    lakehouse.env["LAKEBED_TABLE_FORMAT"] = "iceberg"
    for until in ("2017-01-03", "2017-01-06"):
        # Promotions, half a million lines a week, are test_parity's.
        lakehouse.land("--until", until, "--promotion-weeks", "0", *FAULTS)
        lakehouse.dbt(*BUILD)
        lakehouse.dbt(*BUILD, "--target", "spark_local")
    # As a session by Spark Connect leaves the process.
    monkeypatch.setenv("SPARK_CONNECT_MODE_ENABLED", "1")
    tables, found = compare(lakehouse.home / "lake")
    assert found == []
    assert tables > 40
