"""The reading side: what a run did, from its history alone."""

from orchestrator.trace.steps import StepRecord, read_steps, steps_of

__all__ = ["StepRecord", "read_steps", "steps_of"]
