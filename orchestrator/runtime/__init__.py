"""Runs a region: pollers in every cell it serves, drain, health, streams."""

from orchestrator.runtime.event_loop import event_loop
from orchestrator.runtime.region_worker import CACHED_RUNS, RegionWorker

__all__ = ["CACHED_RUNS", "RegionWorker", "event_loop"]
