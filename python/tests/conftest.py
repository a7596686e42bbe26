"""Lakehouses that several tests look at. They are built once, and never changed."""

from __future__ import annotations

import pytest
from lakehouse import Lakehouse

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
