"""Failures as workflows see and raise them."""

from __future__ import annotations

from temporalio.exceptions import ActivityError, ApplicationError, FailureError, TimeoutError, TimeoutType

from orchestrator.errors import EdgewardError

RETRIED_TIMEOUTS = {
    TimeoutType.HEARTBEAT: "TemporalTimeout:Heartbeat",
    TimeoutType.START_TO_CLOSE: "TemporalTimeout:StartToClose",
}
"""Timeouts after which the server tries again, under the names by which a retry policy may exclude them."""

TAKES_LONG = "StepTakesLongError"
"""Type of the failure of an inline step that was given up because its home is slow."""

SET_ASIDE = "RegionSetAsideError"
"""The same of one that was not begun, because its home is set aside."""


def as_failure(error: EdgewardError) -> ApplicationError:
    """The same error, final: any other exception fails the workflow task, which Temporal retries for ever."""
    return ApplicationError(str(error), type=type(error).__name__, non_retryable=True)


def refused(message: str, *, rule: str) -> ApplicationError:
    """A step or sub-agent has no place.

    Args:
        message: Names it, and what to do.
        rule: That left it none.
    """
    return ApplicationError(message, {"rule": rule}, type="PlacementError", non_retryable=True)


def cause_of(error: FailureError) -> BaseException | None:
    """What a step ended with. The SDK hands over the failure of a local activity as it is."""
    return error.cause if isinstance(error, ActivityError) else error


def was_not_taken(cause: BaseException | None) -> bool:
    """Whether no worker took the step, so that it surely did not run."""
    return isinstance(cause, TimeoutError) and cause.type == TimeoutType.SCHEDULE_TO_START
