"""A client for devices: records go to disk, and in batches to the gateway, each once.

Only the standard library is needed: this folder may be copied to a device as it is. The other side
is `lakebed gateway`; docs/edge.md has the whole story.

    with Edge("pump-7", "https://lake.example.com/edge/pumps", secret, "/var/lib/pump") as edge:
        edge.send({"pressure": 3.1})
"""

from .client import Edge
from .store import EdgeBusy, EdgeError, EdgeFull

PATTERNS = ["pat-edge-batching"]

__all__ = ["Edge", "EdgeBusy", "EdgeError", "EdgeFull"]
