"""The steps of a run, with place, dispatch and times, read from its Temporal history.

Times of queued steps are the server's. Those of inline steps are the home worker's own: the
SDK writes them into the marker that records the step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes
from temporalio.client import Client

from orchestrator.dispatch import assignment_of, plan_of
from orchestrator.placement import Dispatch, Plan
from orchestrator.queues import region_of

_INLINE_MARKER = "core_local_activity"
"""The SDK's name for the marker of a local activity."""


class StepRecord(BaseModel):
    """One step as history tells it."""

    model_config = ConfigDict(frozen=True)

    agent: str
    """The workflow whose step it is: the run's agent or a sub-agent."""

    step: str
    place: str | None
    """None where neither plan nor queue name a region."""

    dispatch: Dispatch
    predicted_ms: float | None
    scheduled_at: datetime
    ended_at: datetime | None
    """None while it is going on."""

    attempts: int
    error: str | None = None
    """Type and message of the failure it ended with."""

    @computed_field
    @property
    def actual_ms(self) -> float | None:
        """Wall time from its scheduling to its end, retries included."""
        if self.ended_at is None:
            return None
        return (self.ended_at - self.scheduled_at) / timedelta(milliseconds=1)


async def read_steps(client: Client, workflow_id: str, run_id: str | None = None) -> list[StepRecord]:
    """The steps of a run and of its sub-agents, in the order in which they were scheduled.

    Args:
        client: Of the run's cell.
        workflow_id: Of the run.
        run_id: Temporal's run id; the latest run of the workflow id if left out.
    """
    events = [
        event async for event in client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history_events()
    ]
    records = steps_of(events)
    for event in events:
        if event.event_type == EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
            child = event.child_workflow_execution_started_event_attributes.workflow_execution
            records += await read_steps(client, child.workflow_id, child.run_id)
    return sorted(records, key=lambda record: record.scheduled_at)


def steps_of(events: Iterable[HistoryEvent]) -> list[StepRecord]:
    """The steps in the events of one history."""
    reader = _Reader()
    for event in events:
        reader.read(event)
    return reader.records()


@dataclass
class _Queued:
    """A queued step while its events are read."""

    event: HistoryEvent
    attempts: int = 0
    ended: HistoryEvent | None = None
    failure: Failure | None = None


@dataclass(frozen=True)
class _Inline:
    """An inline step as its marker tells it."""

    step: str
    attempts: int
    scheduled_at: datetime
    """By the clock of the worker."""

    complete_at: datetime
    """Workflow time when it was scheduled plus how long it took: the SDK's ``complete_time``."""

    error: str | None


class _Reader:
    def __init__(self) -> None:
        self._started: WorkflowExecutionStartedEventAttributes | None = None
        self._plan: Plan | None = None
        self._queued: dict[int, _Queued] = {}
        self._inline: list[_Inline] = []
        self._task_starts: list[datetime] = []

    def read(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                self._started = event.workflow_execution_started_event_attributes
                self._plan = plan_of(self._started.header.fields)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                self._task_starts.append(_time(event))
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                self._queued[event.event_id] = _Queued(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                started = event.activity_task_started_event_attributes
                self._queued[started.scheduled_event_id].attempts = started.attempt
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                if event.marker_recorded_event_attributes.marker_name == _INLINE_MARKER:
                    self._inline.append(_inline(event))
            case _:
                self._read_end(event)

    def _read_end(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                self._end(event.activity_task_completed_event_attributes.scheduled_event_id, event, None)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                failed = event.activity_task_failed_event_attributes
                self._end(failed.scheduled_event_id, event, failed.failure)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                timed_out = event.activity_task_timed_out_event_attributes
                self._end(timed_out.scheduled_event_id, event, timed_out.failure)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
                canceled = event.activity_task_canceled_event_attributes.scheduled_event_id
                self._end(canceled, event, Failure(message="canceled"))
            case _:
                pass

    def records(self) -> list[StepRecord]:
        return [*(self._queued_step(queued) for queued in self._queued.values()), *self._inline_steps()]

    def _end(self, scheduled_event_id: int, event: HistoryEvent, failure: Failure | None) -> None:
        self._queued[scheduled_event_id].ended = event
        self._queued[scheduled_event_id].failure = failure

    def _agent(self) -> str:
        return self._started.workflow_type.name if self._started else ""

    def _queued_step(self, queued: _Queued) -> StepRecord:
        scheduled = queued.event.activity_task_scheduled_event_attributes
        assignment = assignment_of(scheduled.header.fields)
        place = assignment.place if assignment else None
        return StepRecord(
            agent=self._agent(),
            step=scheduled.activity_type.name,
            place=place or region_of(scheduled.task_queue.name),
            dispatch="queue",
            predicted_ms=assignment.predicted_ms if assignment else None,
            scheduled_at=_time(queued.event),
            ended_at=_time(queued.ended) if queued.ended else None,
            attempts=queued.attempts,
            error=_error(queued.failure),
        )

    def _inline_steps(self) -> Iterator[StepRecord]:
        """The SDK writes no duration; it is ``complete_time`` minus workflow time at scheduling.

        Workflow time stands still between activations. So at scheduling it was the start of
        the workflow task, or the ``complete_time`` of the step whose end led to this one: the
        latest that had ended by then.
        """
        ended: list[tuple[datetime, datetime]] = []
        for inline in sorted(self._inline, key=lambda inline: inline.scheduled_at):
            bases = [start for start in self._task_starts if start <= inline.complete_at]
            bases += [complete for end, complete in ended if end <= inline.scheduled_at]
            took = inline.complete_at - max(bases, default=inline.complete_at)
            ended.append((inline.scheduled_at + took, inline.complete_at))
            yield StepRecord(
                agent=self._agent(),
                step=inline.step,
                place=self._plan.home if self._plan else None,
                dispatch="inline",
                predicted_ms=self._predicted_inline_ms(inline.step),
                scheduled_at=inline.scheduled_at,
                ended_at=inline.scheduled_at + took,
                attempts=inline.attempts,
                error=inline.error,
            )

    def _predicted_inline_ms(self, step: str) -> float | None:
        planned = self._plan.root.step(step) if self._plan else None
        if planned is None or not planned.candidates or planned.chosen.dispatch != "inline":
            return None
        return planned.chosen.cost.predicted_ms


def _inline(event: HistoryEvent) -> _Inline:
    marker = event.marker_recorded_event_attributes
    data: dict[str, Any] = json.loads(marker.details["data"].payloads[0].data)
    return _Inline(
        step=str(data["activity_type"]),
        attempts=int(data["attempt"]),
        scheduled_at=_core_time(data["original_schedule_time"]),
        complete_at=_core_time(data["complete_time"]),
        error=_error(marker.failure) if marker.HasField("failure") else None,
    )


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)


def _core_time(value: Any) -> datetime:
    """Time as the SDK's core writes it into the marker: seconds and nanoseconds."""
    seconds, nanos = int(value["seconds"]), int(value["nanos"])
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanos / 1000)


def _error(failure: Failure | None) -> str | None:
    if failure is None:
        return None
    innermost = failure
    while innermost.HasField("cause"):
        innermost = innermost.cause
    kind = innermost.application_failure_info.type or "Timeout" * innermost.HasField("timeout_failure_info")
    return f"{kind}: {innermost.message}" if kind else innermost.message
