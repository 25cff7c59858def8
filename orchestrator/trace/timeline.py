"""One workflow's history, read once: its tasks, steps and sub-agents with the times of each."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType, StartChildWorkflowExecutionFailedCause
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent, WorkflowExecutionStartedEventAttributes

from orchestrator.dispatch import HEDGE_ACTIVITY, Assignment, assignment_of, plan_of
from orchestrator.errors import ConfigurationError
from orchestrator.placement import Plan
from orchestrator.queues import region_of
from orchestrator.timing import TIMING, timing_of
from orchestrator.trace.failures import CLOSED, closing_error, error_text, next_run
from orchestrator.trace.inline import FOREIGN_MARKER, INLINE_MARKER, InlineMarker, inline_times
from orchestrator.trace.parts import QueuedTimes, inline_parts, queued_parts
from orchestrator.trace.pauses import Pause, Pauses
from orchestrator.trace.values import Step, SubAgent, WorkflowTask


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
    status: str = "initiated"
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

    continued_as: str | None = None
    """Temporal's run id of the run that follows this one in its chain."""

    foreign_steps: int = 0
    """Local activities of an SDK whose markers tell no times."""

    unreadable_steps: int = 0
    """Markers of inline steps that cannot be read."""

    _last_completion: int | None = None
    _continues: bool = False
    _tasks: list[WorkflowTask] = field(default_factory=list[WorkflowTask])
    _task_of_completion: dict[int, WorkflowTask] = field(default_factory=dict[int, WorkflowTask])
    _queued: dict[int, _Queued] = field(default_factory=dict[int, _Queued])
    _markers: list[InlineMarker] = field(default_factory=list[InlineMarker])
    _children: dict[int, _Child] = field(default_factory=dict[int, _Child])
    _pauses: Pauses = field(default_factory=Pauses)

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
    def reset_from(self) -> str | None:
        """Temporal's run id of the run whose history this one took over in a reset."""
        return self._pauses.reset_from

    @property
    def unreadable_timings(self) -> int:
        """Results beside which a worker said something that cannot be read."""
        results = (
            *(queued.result for queued in self._queued.values()),
            *(one.result for one in self._markers),
        )
        said = [result for result in results if result is not None and TIMING in result.metadata]
        return sum(timing_of(result) is None for result in said)

    def read(self, event: HistoryEvent) -> None:
        """Takes the next event."""
        self._pauses.read(event)
        match event.event_type:
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED:
                self._begin(event)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                self._continues = self._last_completion == event.event_id - 1
            case EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED:
                self._tasks.append(WorkflowTask(event.event_id, _time(event), self._continues))
            case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED if self._tasks:
                # an update, too, is seen first by the turn that it asks for
                self._tasks[-1] = replace(self._tasks[-1], continues=False)
            case EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
                began = event.workflow_task_completed_event_attributes.started_event_id
                task = next((task for task in reversed(self._tasks) if task.started_event == began), None)
                if task is not None:
                    self._task_of_completion[event.event_id] = task
                self._last_completion = event.event_id
            case EventType.EVENT_TYPE_MARKER_RECORDED:
                self._read_marker(event)
            case _:
                self._read_activity(event)

    def _begin(self, event: HistoryEvent) -> None:
        self.started = event.workflow_execution_started_event_attributes
        self.started_at = _time(event)
        try:
            self.plan = plan_of(self.started.header.fields)
        except ConfigurationError as error:
            self.unreadable_plan = str(error)

    def _read_marker(self, event: HistoryEvent) -> None:
        name = event.marker_recorded_event_attributes.marker_name
        if name == FOREIGN_MARKER:
            self.foreign_steps += 1
        if name != INLINE_MARKER:
            return
        marker = InlineMarker.of(event)
        if marker is None:
            self.unreadable_steps += 1
        else:
            self._markers.append(marker)

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
            case EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED:
                refused = event.start_child_workflow_execution_failed_event_attributes
                cause = StartChildWorkflowExecutionFailedCause.Name(refused.cause)
                failure = Failure(message=cause.removeprefix(_REFUSED).replace("_", " ").lower())
                self._end_child(refused.initiated_event_id, event, "not started", failure)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_STARTED:
                started = event.child_workflow_execution_started_event_attributes
                child = self._children[started.initiated_event_id]
                child.run_id, child.status = started.workflow_execution.run_id, "running"
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED:
                completed = event.child_workflow_execution_completed_event_attributes
                self._end_child(completed.initiated_event_id, event, "completed")
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED:
                failed = event.child_workflow_execution_failed_event_attributes
                self._end_child(failed.initiated_event_id, event, "failed", failed.failure)
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED:
                canceled = event.child_workflow_execution_canceled_event_attributes
                self._end_child(canceled.initiated_event_id, event, "canceled")
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT:
                timed_out = event.child_workflow_execution_timed_out_event_attributes
                self._end_child(timed_out.initiated_event_id, event, "timed out")
            case EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED:
                terminated = event.child_workflow_execution_terminated_event_attributes
                self._end_child(terminated.initiated_event_id, event, "terminated")
            case _:
                self._read_close(event)

    def _read_close(self, event: HistoryEvent) -> None:
        status = CLOSED.get(event.event_type)
        if status is None:
            return
        self.status, self.ended_at = status, _time(event)
        self.error, self.continued_as = closing_error(event), next_run(event)
        self._pauses.close()

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

    def _end_child(
        self, initiated: int, event: HistoryEvent, status: str, failure: Failure | None = None
    ) -> None:
        child = self._children[initiated]
        child.ended, child.status, child.failure = event, status, failure

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
            closed_at = ended_at = None
            if child.ended is not None:
                closed_at, ended_at = _time(child.ended), self._resumed(child.ended.event_id)
            found.append(
                SubAgent(
                    name=initiated.workflow_type.name,
                    workflow_id=initiated.workflow_id,
                    run_id=child.run_id,
                    began_at=self._called_at(child.event, initiated.workflow_task_completed_event_id),
                    closed_at=closed_at,
                    ended_at=ended_at or closed_at,
                    status=child.status,
                    error=error_text(child.failure),
                )
            )
        return found

    def pauses(self) -> list[Pause]:
        """When the run waited by its own will, in the order in which that began."""
        return self._pauses.told(lambda event_id: self._resumed(event_id) or self.ended_at)

    def _called_at(self, event: HistoryEvent, completion: int) -> datetime:
        """When the agent's code called what a turn scheduled.

        At the start of the turn, or when the last inline step of it had ended. History tells no
        more: what a turn schedules is sent at its end.
        """
        scheduled_at = _time(event)
        task = self._task_of_completion.get(completion)
        if task is None:
            return scheduled_at
        ends = (marker.complete_at for marker in self._markers_by_completion.get(completion, ()))
        return max((end for end in ends if task.started_at <= end <= scheduled_at), default=task.started_at)

    @cached_property
    def _markers_by_completion(self) -> dict[int, list[InlineMarker]]:
        found: dict[int, list[InlineMarker]] = {}
        for marker in self._markers:
            found.setdefault(marker.completion, []).append(marker)
        return found

    def _next_task(self, event_id: int) -> WorkflowTask | None:
        """The first turn after an event."""
        index = bisect_left(self._tasks, event_id, key=lambda task: task.started_event)
        return self._tasks[index] if index < len(self._tasks) else None

    def _resumed(self, event_id: int) -> datetime | None:
        """When the agent's code next ran after an event."""
        task = self._next_task(event_id)
        return task.started_at if task else None

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
            earlier=assignment.earlier if assignment else (),
            passed_over=assignment.passed_over if assignment else (),
            hedge=assignment is not None and assignment.hedge,
        )

    def _inline_steps(self) -> Iterator[Step]:
        turns = [task.started_at for task in self._tasks if not task.continues]
        markers = [marker for marker in self._markers if marker.step != HEDGE_ACTIVITY]
        for times in inline_times(markers, turns):
            marker, timing = times.marker, times.marker.timing
            took_ms = times.took / timedelta(milliseconds=1)
            yield Step(
                name=marker.step,
                place=self.plan.home if self.plan else None,
                dispatch="inline",
                began_at=times.began_at,
                scheduled_at=times.began_at,
                closed_at=marker.complete_at,
                ended_at=marker.complete_at,
                attempts=marker.attempts,
                predicted_ms=self._predicted_inline_ms(marker.step),
                parts=inline_parts(took_ms, timing, marker.attempts, times.skew_ms),
                timing=timing,
                error=marker.error,
                sequence=self._numbered(marker.activity_id),
                activity_id=marker.activity_id,
            )

    def _numbered(self, activity_id: str) -> int | None:
        """The number of an inline step: its activity id, unless its author chose one."""
        return int(activity_id) if self.plan is not None and activity_id.isdecimal() else None

    def _predicted_inline_ms(self, step: str) -> float | None:
        planned = self.plan.root.step(step) if self.plan else None
        if planned is None or not planned.candidates or planned.chosen.dispatch != "inline":
            return None
        return planned.chosen.cost.predicted_ms


_REFUSED = "START_CHILD_WORKFLOW_EXECUTION_FAILED_CAUSE_"


def _assignment(event: HistoryEvent) -> Assignment | None:
    try:
        return assignment_of(event.activity_task_scheduled_event_attributes.header.fields)
    except ConfigurationError:
        return None  # of another version: the queue still names the place


def _time(event: HistoryEvent) -> datetime:
    return event.event_time.ToDatetime(tzinfo=UTC)
