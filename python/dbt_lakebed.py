"""dbt imports every module whose name begins with `dbt_`: so Lakebed extends its Spark adapter,
and tells the lineage of a run when it has ended."""

from importlib.util import find_spec
from typing import Any

from dbt.plugins.manager import dbtPlugin
from lakebed.lineage import tell

if find_spec("dbt.adapters.spark"):
    from lakebed.spark import adapter

    adapter.extend()


class Lineage(dbtPlugin):
    """Sends OpenLineage events, if settings say where to."""

    def initialize(self) -> None:
        if not tell.wanted():
            return
        from dbt_common.events.event_manager_client import add_callback_to_manager

        add_callback_to_manager(_ended)


def _ended(message: Any) -> None:
    if message.info.name == "CommandCompleted":
        tell.after_dbt(message.info.invocation_id)


plugins = [Lineage]
