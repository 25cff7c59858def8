"""The live view of the regions: what answers, how far away, how busy, how fast."""

from orchestrator.fleet.fleet import Fleet
from orchestrator.fleet.health import RegionHealth
from orchestrator.fleet.status import QueueStatus, StepTime, WorkerStatus
from orchestrator.fleet.times import StepTimes
from orchestrator.fleet.view import View

__all__ = ["Fleet", "QueueStatus", "RegionHealth", "StepTime", "StepTimes", "View", "WorkerStatus"]
