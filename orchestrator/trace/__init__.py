"""The reading side: what a run did, from its history alone."""

from orchestrator.trace.parts import PARTS, StepParts
from orchestrator.trace.pauses import Pause
from orchestrator.trace.reading import find_run, read_run
from orchestrator.trace.receipt import regret_ms
from orchestrator.trace.run_trace import RunTrace, Slowest, StepTrace
from orchestrator.trace.steps import StepRecord, read_steps

__all__ = [
    "PARTS",
    "Pause",
    "RunTrace",
    "Slowest",
    "StepParts",
    "StepRecord",
    "StepTrace",
    "find_run",
    "read_run",
    "read_steps",
    "regret_ms",
]
