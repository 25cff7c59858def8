"""Runs a region: pollers in every cell it serves, drain, health, streams."""

from orchestrator.runtime.event_loop import event_loop
from orchestrator.runtime.region_worker import RegionWorker

__all__ = ["RegionWorker", "event_loop"]
