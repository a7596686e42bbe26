"""dbt imports every module whose name begins with `dbt_`: so Lakebed extends its Spark adapter."""

from importlib.util import find_spec

if find_spec("dbt.adapters.spark"):
    from lakebed.spark import adapter

    adapter.extend()
