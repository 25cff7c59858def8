"""What ended a step or a run, in words."""

from __future__ import annotations

from temporalio.api.enums.v1 import EventType
from temporalio.api.failure.v1 import Failure
from temporalio.api.history.v1 import HistoryEvent

CLOSED = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "completed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "timed out",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "canceled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continued as new",
}
"""The events that end a run, and what they say of it."""


def error_text(failure: Failure | None) -> str | None:
    """Type and message of what ended a step or a run; None where nothing did."""
    if failure is None:
        return None
    innermost = failure
    while innermost.HasField("cause"):
        innermost = innermost.cause
    kind = innermost.application_failure_info.type or "Timeout" * innermost.HasField("timeout_failure_info")
    return f"{kind}: {innermost.message}" if kind else innermost.message


def closing_error(event: HistoryEvent) -> str | None:
    """Why a run ended as it did, as far as the event that ended it tells."""
    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
        return error_text(event.workflow_execution_failed_event_attributes.failure)
    if event.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED:
        return event.workflow_execution_terminated_event_attributes.reason or None
    return None


def next_run(event: HistoryEvent) -> str | None:
    """Temporal's run id of the run that follows the one that this event ended; None where none does."""
    match event.event_type:
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW:
            found = event.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED:
            found = event.workflow_execution_completed_event_attributes.new_execution_run_id
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED:
            found = event.workflow_execution_failed_event_attributes.new_execution_run_id
        case EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT:
            found = event.workflow_execution_timed_out_event_attributes.new_execution_run_id
        case _:
            return None
    return found or None
