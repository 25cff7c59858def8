"""One workflow's history, read once: its tasks, steps and sub-agents with the times of each."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes

from orchestrator.dispatch import assignment_of, plan_of
from orchestrator.errors import ConfigurationError
from orchestrator.placement import Dispatch, Plan
from orchestrator.queues import region_of
from orchestrator.timing import StepTiming, timing_of
from orchestrator.trace.parts import QueuedTimes, StepParts, inline_parts, queued_parts

INLINE_MARKER = "core_local_activity"
"""The SDK's name for the marker of a local activity."""


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
    ended_at: datetime | None
    error: str | None


@dataclass
class _Queued:
    event: HistoryEvent
    started_at: datetime | None = None
    attempts: int = 0
    ended: HistoryEvent | None = None
    result: Payload | None = None
    failure: Failure | None = None


@dataclass
class _Child:
    event: HistoryEvent
    run_id: str | None = None
    ended: HistoryEvent | None = None
    failure: Failure | None = None


@dataclass
class Timeline:
    """The history of one workflow. Give it the events in order, then ask."""

    started: WorkflowExecutionStartedEventAttributes | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    status: str = "running"
    error: str | None = None
    plan: Plan | None = None
    unreadable_plan: str | None = None
    """Why the plan in the start header cannot be read, if there is one."""

    _tasks: list[WorkflowTask] = field(default_factory=list[WorkflowTask])
    _task_of_completion: dict[int, WorkflowTask] = field(default_factory=dict[int, WorkflowTask])
    _queued: dict[int, _Queued] = field(default_factory=dict[int, _Queued])
    _markers: list[HistoryEvent] = field(default_factory=list[HistoryEvent])
    _children: dict[int, _Child] = field(default_factory=dict[int, _Child])

    @classmethod
    def of(cls, events: Iterable[HistoryEvent]) -> Timeline:
        """The timeline of these events."""
        timeline = cls()
        for event in events:
            timeline.read(event)
        return timeline

    @property
    def agent(self) -> str:
        """The workflow's type."""
        return self.started.workflow_type.name if self.started else ""

    @property
    def first_task_at(self) -> datetime | None:
        """When the workflow's code first ran."""
        return self._tasks[0].started_at if self._tasks else None

    @property
    def last_task_at(self) -> datetime | None:
        """When it last ran."""
        return self._tasks[-1].started_at if self._tasks else None

    def read(self, event: HistoryEvent) -> None:
        """Takes the next event."""
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                self._begin(event)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                self._tasks.append(WorkflowTask(event.event_id, _time(event)))
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                began = event.workflow_task_completed_event_attributes.started_event_id
                task = next((task for task in reversed(self._tasks) if task.started_event == began), None)
                if task is not None:
                    self._task_of_completion[event.event_id] = task
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                if event.marker_recorded_event_attributes.marker_name == INLINE_MARKER:
                    self._markers.append(event)
            case _:
                self._read_activity(event)

    def _begin(self, event: HistoryEvent) -> None:
        self.started = event.workflow_execution_started_event_attributes
        self.started_at = _time(event)
        try:
            self.plan = plan_of(self.started.header.fields)
        except ConfigurationError as error:
            self.unreadable_plan = str(error)

    def _read_activity(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                self._queued[event.event_id] = _Queued(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED:
                started = event.activity_task_started_event_attributes
                queued = self._queued[started.scheduled_event_id]
                queued.attempts, queued.started_at = started.attempt, _time(event)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                completed = event.activity_task_completed_event_attributes
                results = completed.result.payloads
                self._end_step(completed.scheduled_event_id, event, result=results[0] if results else None)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED:
                failed = event.activity_task_failed_event_attributes
                self._end_step(failed.scheduled_event_id, event, failure=failed.failure)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT:
                timed_out = event.activity_task_timed_out_event_attributes
                self._end_step(timed_out.scheduled_event_id, event, failure=timed_out.failure)
            case EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED:
                canceled = event.activity_task_canceled_event_attributes.scheduled_event_id
                self._end_step(canceled, event, failure=Failure(message="canceled"))
            case _:
                self._read_child(event)

    def _read_child(self, event: HistoryEvent) -> None:
        match event.event_type:
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED:
                self._children[event.event_id] = _Child(event)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                started = event.child_workflow_execution_started_event_attributes
                self._children[started.initiated_event_id].run_id = started.workflow_execution.run_id
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                completed = event.child_workflow_execution_completed_event_attributes
                self._end_child(completed.initiated_event_id, event, None)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED:
                failed = event.child_workflow_execution_failed_event_attributes
                self._end_child(failed.initiated_event_id, event, failed.failure)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED:
                canceled = event.child_workflow_execution_canceled_event_attributes
                self._end_child(canceled.initiated_event_id, event, Failure(message="canceled"))
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED:
                terminated = event.child_workflow_execution_terminated_event_attributes
                self._end_child(terminated.initiated_event_id, event, Failure(message="terminated"))
            case _:
                self._read_close(event)

    def _read_close(self, event: HistoryEvent) -> None:
        status = _CLOSED.get(event.event_type)
        if status is None:
            return
        self.status, self.ended_at = status, _time(event)
        if status == "failed":
            self.error = error_text(event.workflow_execution_failed_event_attributes.failure)

    def _end_step(
        self,
        scheduled: int,
        event: HistoryEvent,
        *,
        result: Payload | None = None,
        failure: Failure | None = None,
    ) -> None:
        queued = self._queued[scheduled]
        queued.ended, queued.result, queued.failure = event, result, failure

    def _end_child(self, initiated: int, event: HistoryEvent, failure: Failure | None) -> None:
        child = self._children[initiated]
        child.ended, child.failure = event, failure

    # -- what it says -------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """The steps, in the order in which they began."""
        steps = [*self._inline_steps(), *(self._queued_step(queued) for queued in self._queued.values())]
        return sorted(steps, key=lambda step: (step.began_at, step.scheduled_at))

    def sub_agents(self) -> list[SubAgent]:
        """The child workflows, in the order in which they began."""
        found: list[SubAgent] = []
        for child in self._children.values():
            initiated = child.event.start_child_workflow_execution_initiated_event_attributes
            ended_at = None
            if child.ended is not None:
                resumed = self._next_task(child.ended.event_id)
                ended_at = resumed.started_at if resumed else _time(child.ended)
            found.append(
                SubAgent(
                    name=initiated.workflow_type.name,
                    workflow_id=initiated.workflow_id,
                    run_id=child.run_id,
                    began_at=self._called_at(child.event, initiated.workflow_task_completed_event_id),
                    ended_at=ended_at,
                    error=error_text(child.failure),
                )
            )
        return found

    def _called_at(self, event: HistoryEvent, completion: int) -> datetime:
        """When the agent's code called what a turn scheduled.

        At the start of the turn, or when the last inline step of it had ended. History tells no
        more: what a turn schedules is sent at its end.
        """
        scheduled_at = _time(event)
        task = self._task_of_completion.get(completion)
        if task is None:
            return scheduled_at
        ends = (_Inline.of(marker).complete_at for marker in self._markers_of(completion))
        return max((end for end in ends if task.started_at <= end <= scheduled_at), default=task.started_at)

    def _markers_of(self, completion: int) -> list[HistoryEvent]:
        return [
            marker
            for marker in self._markers
            if marker.marker_recorded_event_attributes.workflow_task_completed_event_id == completion
        ]

    def _next_task(self, event_id: int) -> WorkflowTask | None:
        """The first turn after an event."""
        index = bisect_left(self._tasks, event_id, key=lambda task: task.started_event)
        return self._tasks[index] if index < len(self._tasks) else None

    def _queued_step(self, queued: _Queued) -> Step:
        scheduled = queued.event.activity_task_scheduled_event_attributes
        scheduled_at = _time(queued.event)
        assignment = _assignment(queued.event)
        began_at = self._called_at(queued.event, scheduled.workflow_task_completed_event_id)
        timing = timing_of(queued.result) if queued.result is not None else None
        closed_at = ended_at = parts = None
        if queued.ended is not None:
            closed_at = _time(queued.ended)
            resumed = self._next_task(queued.ended.event_id)
            ended_at = resumed.started_at if resumed else closed_at
            times = QueuedTimes(
                began_at,
                scheduled_at,
                queued.started_at,
                closed_at,
                resumed.started_at if resumed else None,
                queued.attempts,
            )
            parts = queued_parts(times, timing)
        return Step(
            name=scheduled.activity_type.name,
            place=(assignment.place if assignment else None) or region_of(scheduled.task_queue.name),
            dispatch="queue",
            began_at=began_at,
            scheduled_at=scheduled_at,
            closed_at=closed_at,
            ended_at=ended_at,
            attempts=queued.attempts,
            predicted_ms=assignment.predicted_ms if assignment else None,
            parts=parts,
            timing=timing,
            error=error_text(queued.failure),
            sequence=assignment.sequence if assignment else None,
            activity_id=scheduled.activity_id,
        )

    def _inline_steps(self) -> Iterator[Step]:
        """The SDK writes no duration; it is ``complete_time`` minus workflow time at scheduling.

        Workflow time stands still between activations. So at scheduling it was the start of
        the workflow task, or the ``complete_time`` of the step whose end led to this one: the
        latest that had ended by then.
        """
        ended: list[tuple[datetime, datetime]] = []
        inline = sorted((_Inline.of(event) for event in self._markers), key=lambda one: one.scheduled_at)
        for one in inline:
            bases = [task.started_at for task in self._tasks if task.started_at <= one.complete_at]
            bases += [complete for end, complete in ended if end <= one.scheduled_at]
            base = max(bases, default=one.complete_at)
            took = one.complete_at - base
            ended.append((one.scheduled_at + took, one.complete_at))
            yield Step(
                name=one.step,
                place=self.plan.home if self.plan else None,
                dispatch="inline",
                began_at=base,
                scheduled_at=base,
                closed_at=one.complete_at,
                ended_at=one.complete_at,
                attempts=one.attempts,
                predicted_ms=self._predicted_inline_ms(one.step),
                parts=inline_parts(took / timedelta(milliseconds=1), one.timing, one.attempts),
                timing=one.timing,
                error=one.error,
                sequence=None,
                activity_id=one.activity_id,
            )

    def _predicted_inline_ms(self, step: str) -> float | None:
        planned = self.plan.root.step(step) if self.plan else None
        if planned is None or not planned.candidates or planned.chosen.dispatch != "inline":
            return None
        return planned.chosen.cost.predicted_ms


@dataclass(frozen=True)
class _Inline:
    """An inline step as its marker tells it."""

    step: str
    activity_id: str
    attempts: int
    scheduled_at: datetime
    """By the clock of the worker."""

    complete_at: datetime
    """Workflow time when it was scheduled plus how long it took: the SDK's ``complete_time``."""

    timing: StepTiming | None
    error: str | None

    @classmethod
    def of(cls, event: HistoryEvent) -> _Inline:
        marker = event.marker_recorded_event_attributes
        data: dict[str, Any] = json.loads(marker.details["data"].payloads[0].data)
        results: list[Payload] = []
        if "result" in marker.details:
            results.extend(marker.details["result"].payloads)
        return cls(
            step=str(data["activity_type"]),
            activity_id=str(data["activity_id"]),
            attempts=int(data["attempt"]),
            scheduled_at=_core_time(data["original_schedule_time"]),
            complete_at=_core_time(data["complete_time"]),
            timing=timing_of(results[0]) if results else None,
            error=error_text(marker.failure) if marker.HasField("failure") else None,
        )


_CLOSED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "completed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed out",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "canceled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continued as new",
}


def error_text(failure: Failure | None) -> str | None:
    """Type and message of what ended a step or a run; None where nothing did."""
    if failure is None:
        return None
    innermost = failure
    while innermost.HasField("cause"):
        innermost = innermost.cause
    kind = innermost.application_failure_info.type or "Timeout" * innermost.HasField("timeout_failure_info")
    return f"{kind}: {innermost.message}" if kind else innermost.message


def _assignment(event: HistoryEvent) -> Any:
    try:
        return assignment_of(event.activity_task_scheduled_event_attributes.header.fields)
    except ConfigurationError:
        return None  # of another version: the queue still names the place


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)


def _core_time(value: Any) -> datetime:
    """Time as the SDK's core writes it into the marker: seconds and nanoseconds."""
    seconds, nanos = int(value["seconds"]), int(value["nanos"])
    return datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=nanos / 1000)
