"""The live view of the regions: what answers, how far away, how busy, how fast."""

from orchestrator.fleet.status import QueueStatus, StepTime, WorkerStatus
from orchestrator.fleet.times import StepTimes

__all__ = ["QueueStatus", "StepTime", "StepTimes", "WorkerStatus"]
