"""When a run waited by its own will: for a timer, a message from outside, another service's operation.

That is no step and no cost of orchestration. Timers and operations have events. A run waits for a
message, a signal or an update, while nothing else is open: no turn of its code, no step, no sub-agent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, computed_field
from temporalio.api.enums.v1 import EventType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent

PauseKind = Literal["timer", "message", "operation", "reset"]


class Pause(BaseModel):
    """One time that a run waited."""

    model_config = ConfigDict(frozen=True)

    kind: PauseKind
    """``reset``: between the last event that a reset run took over and the reset."""

    name: str
    """Of the timer or operation, or what came: ``signal approve``."""

    began_at: datetime
    ended_at: datetime | None
    """When the agent's code went on; None while it waits."""

    on_critical_path: bool = False

    @computed_field
    @property
    def wall_ms(self) -> float | None:
        """How long it waited; None while it does."""
        return None if self.ended_at is None else (self.ended_at - self.began_at) / timedelta(milliseconds=1)


@dataclass
class _Opened:
    kind: PauseKind
    name: str
    began_at: datetime
    ended_event: int | None = None
    """The event that ended it."""


_OPENS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_INITIATED,
    EventType.EVENT_TYPE_TIMER_STARTED,
    EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED,
}
"""Events that begin something whose end calls the agent's code."""

_ENDS = {
    EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_FAILED,
    EventType.EVENT_TYPE_ACTIVITY_TASK_TIMED_OUT,
    EventType.EVENT_TYPE_ACTIVITY_TASK_CANCELED,
    EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_COMPLETED,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_CANCELED,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TIMED_OUT,
    EventType.EVENT_TYPE_CHILD_WORKFLOW_EXECUTION_TERMINATED,
    EventType.EVENT_TYPE_SIGNAL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_REQUEST_CANCEL_EXTERNAL_WORKFLOW_EXECUTION_FAILED,
    EventType.EVENT_TYPE_EXTERNAL_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
    EventType.EVENT_TYPE_TIMER_FIRED,
    EventType.EVENT_TYPE_TIMER_CANCELED,
    EventType.EVENT_TYPE_NEXUS_OPERATION_COMPLETED,
    EventType.EVENT_TYPE_NEXUS_OPERATION_FAILED,
    EventType.EVENT_TYPE_NEXUS_OPERATION_CANCELED,
    EventType.EVENT_TYPE_NEXUS_OPERATION_TIMED_OUT,
}
"""Events that end it; each names the event that began it."""

_WAKES = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED,
    EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT,
}
"""What comes from outside; an update shows as the turn that it asks for."""

_BEGUN_BY = ("scheduled_event_id", "initiated_event_id", "started_event_id")
"""How they name it. A timer has the last of these, and a step the first as well: that one counts."""

_TURNS = _WAKES | {EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED}
"""After these a turn of the agent's code is due, as it is after the end of what it began."""

_TURN = 0
"""What is open while a turn of the agent's code is due or runs; no event has this id."""


@dataclass
class Pauses:
    """Follows a history and notes each pause. Give it the events in order, then ask."""

    reset_from: str | None = None
    """Temporal's run id of the run whose history this one took over."""

    _open: set[int] = field(default_factory=set[int])
    _found: dict[int, _Opened] = field(default_factory=dict[int, _Opened])
    """By the event that began it, for messages by the one that ended it."""

    _unaccepted: int | None = None
    """The turn that may have been asked for by an update: one that continues another looks the same."""

    _last_at: datetime | None = None
    _closed: bool = False

    def read(self, event: HistoryEvent) -> None:
        """Takes the next event."""
        at = event.event_time.ToDatetime(tzinfo=UTC)
        kind = event.event_type
        if kind == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED:
            self._note_reset(event)
        elif kind in _WAKES and not self._open and self._last_at is not None and at > self._last_at:
            self._found[event.event_id] = _Opened("message", _message(event), self._last_at, event.event_id)
            self._forget_unaccepted()
            if kind == EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
                self._unaccepted = event.event_id
        elif kind == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED:
            self._unaccepted = None
        self._last_at = at
        if kind in _OPENS:
            self._open.add(event.event_id)
            self._note_beginning(event, at)
        elif kind in _ENDS:
            self._note_end(event)
        if kind == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED:
            self._open.discard(_TURN)
        elif kind in _TURNS or (kind in _ENDS and kind != EventType.EVENT_TYPE_TIMER_CANCELED):
            self._open.add(_TURN)

    def close(self) -> None:
        """The run has ended: it waits for nothing any more."""
        self._closed = True

    def told(self, resumed: Callable[[int], datetime | None]) -> list[Pause]:
        """The pauses, in the order in which they began.

        Args:
            resumed: Given an event: when the agent's code next ran after it.
        """
        self._forget_unaccepted()
        found = [
            Pause(
                kind=opened.kind,
                name=opened.name,
                began_at=opened.began_at,
                ended_at=None if opened.ended_event is None else resumed(opened.ended_event),
            )
            for opened in self._found.values()
            if not self._closed or opened.ended_event is not None
        ]
        if not self._closed and not self._open and self._last_at is not None:
            found.append(
                Pause(kind="message", name="a signal or an update", began_at=self._last_at, ended_at=None)
            )
        return sorted(found, key=lambda pause: pause.began_at)

    def _forget_unaccepted(self) -> None:
        if self._unaccepted is not None:
            del self._found[self._unaccepted]
            self._unaccepted = None

    def _note_reset(self, event: HistoryEvent) -> None:
        failed = event.workflow_task_failed_event_attributes
        if failed.cause != WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_RESET_WORKFLOW:
            return
        self.reset_from = failed.base_run_id
        if self._last_at is not None:
            self._found[event.event_id] = _Opened("reset", "reset", self._last_at, event.event_id)

    def _note_beginning(self, event: HistoryEvent, at: datetime) -> None:
        if event.event_type == EventType.EVENT_TYPE_TIMER_STARTED:
            after = event.timer_started_event_attributes.start_to_fire_timeout.ToTimedelta()
            name = _summary(event) or f"timer of {after.total_seconds():g} s"
            self._found[event.event_id] = _Opened("timer", name, at)
        elif event.event_type == EventType.EVENT_TYPE_NEXUS_OPERATION_SCHEDULED:
            scheduled = event.nexus_operation_scheduled_event_attributes
            name = f"{scheduled.service}.{scheduled.operation}"
            self._found[event.event_id] = _Opened("operation", name, at)

    def _note_end(self, event: HistoryEvent) -> None:
        began = _begun_by(event)
        self._open.discard(began)
        opened = self._found.get(began)
        if opened is None:
            return
        if event.event_type == EventType.EVENT_TYPE_TIMER_CANCELED:
            del self._found[began]  # the run went on for another reason
        else:
            opened.ended_event = event.event_id


def _begun_by(event: HistoryEvent) -> int:
    attributes = getattr(event, str(event.WhichOneof("attributes")))
    fields = attributes.DESCRIPTOR.fields_by_name
    return next((int(getattr(attributes, name)) for name in _BEGUN_BY if name in fields), -1)


def _message(event: HistoryEvent) -> str:
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED:
            return f"signal {event.workflow_execution_signaled_event_attributes.signal_name}"
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCEL_REQUESTED:
            return "cancellation"
        case EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED:
            return "update"  # its own event follows when the code has accepted it
        case _:
            return "end"


def _summary(event: HistoryEvent) -> str | None:
    """What the author called the timer; None where it cannot be read."""
    try:
        found = json.loads(event.user_metadata.summary.data)
    except ValueError:
        return None
    return found if isinstance(found, str) else None
