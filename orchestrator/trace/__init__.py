"""The reading side: what a run did, from its history alone."""

from orchestrator.trace.parts import PARTS, StepParts
from orchestrator.trace.run_trace import RunTrace, StepTrace, read_run
from orchestrator.trace.steps import StepRecord, read_steps

__all__ = ["PARTS", "RunTrace", "StepParts", "StepRecord", "StepTrace", "read_run", "read_steps"]
