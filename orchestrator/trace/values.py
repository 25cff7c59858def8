"""What a history is made of, for those who read a trace from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.placement import Dispatch
from orchestrator.timing import StepTiming
from orchestrator.trace.parts import StepParts


@dataclass(frozen=True)
class WorkflowTask:
    """One turn of the workflow's code."""

    started_event: int
    started_at: datetime


@dataclass(frozen=True)
class Step:
    """One step as history tells it."""

    name: str
    place: str | None
    dispatch: Dispatch
    began_at: datetime
    """When the workflow's code called it: the start of that turn, on the server's clock."""

    scheduled_at: datetime
    closed_at: datetime | None
    """When its end was recorded."""

    ended_at: datetime | None
    """When the workflow's code had its result."""

    attempts: int
    predicted_ms: float | None
    parts: StepParts | None
    """None while it is going on."""

    timing: StepTiming | None
    error: str | None
    sequence: int | None
    """From the assignment of a queued step; history keeps none of inline ones."""

    activity_id: str


@dataclass(frozen=True)
class SubAgent:
    """A child workflow."""

    name: str
    workflow_id: str
    run_id: str | None
    began_at: datetime
    closed_at: datetime | None
    """When its end was recorded in this history."""

    ended_at: datetime | None
    """When the workflow's code had its answer."""

    status: str
    """``initiated`` before it has started, ``not started`` where it could not."""

    error: str | None
