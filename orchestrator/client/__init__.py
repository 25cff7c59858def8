"""Start a run from an origin; follow it; take its result."""

from orchestrator.client.edge_client import EdgeClient
from orchestrator.client.run import EdgeRun

__all__ = ["EdgeClient", "EdgeRun"]
