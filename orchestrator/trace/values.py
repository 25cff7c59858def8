"""What a history is made of, for those who read a trace from it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from orchestrator.dispatch import EarlierPlace
from orchestrator.placement import Dispatch
from orchestrator.timing import StepTiming
from orchestrator.trace.parts import StepParts


@dataclass(frozen=True)
class WorkflowTask:
    """One turn of the workflow's code."""

    started_event: int
    started_at: datetime
    continues: bool = False
    """Whether nothing had come since the turn before it: the SDK holds on to its turn while inline steps
    run, and asks the server for another one in time. To the workflow's code they are one turn."""


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
    """Its number in the run: dispatches of the same step have the same. None in a run without a plan."""

    activity_id: str
    earlier: tuple[EarlierPlace, ...] = ()
    """The places that should have done it before, and did not."""

    passed_over: tuple[EarlierPlace, ...] = ()
    """The places that its plan preferred, and why it did not go there."""

    hedge: bool = False
    """Whether it ran in another place at the same time, which took unusually long."""


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
