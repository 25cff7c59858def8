"""A step of a run with a budget: one dispatch after the other, each reserved before it starts.

Without a budget the server repeats what fails, by the retry policy, and the run does not hear of it.
Under one each dispatch may run once, and the run itself dispatches again by the same policy. Everything
here runs in workflows.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ApplicationError, FailureError, TimeoutError

from orchestrator.dispatch.failures import RETRIED_TIMEOUTS, cause_of, was_not_taken
from orchestrator.dispatch.redispatch import Redispatched

ONCE = RetryPolicy(maximum_attempts=1)

LONGEST_INTERVALS = 100
"""Temporal's own bound of a pause, in initial intervals, where a policy names none."""


class CountedStep(Redispatched):
    """One step in one place.

    Args:
        step: Its name.
        policy: How often, and after which pauses.
        ends_at: When it has to be over; None for never.
        reserve: Takes what one dispatch may use, or raises.
        release: Returns that of a dispatch that no worker took.
        start: Dispatches it; is given how often that was done before.
    """

    def __init__(
        self,
        step: str,
        policy: RetryPolicy,
        ends_at: datetime | None,
        reserve: Callable[[], None],
        release: Callable[[], None],
        start: Callable[[int], workflow.ActivityHandle[Any]],
    ) -> None:
        reserve()
        super().__init__(step, start(0))
        self._policy = policy
        self._ends_at = ends_at
        self._reserve = reserve
        self._release = release
        self._start = start

    async def _carry_out(self) -> Any:
        done = 1
        while True:
            try:
                return await self._running
            except FailureError as error:
                if was_not_taken(cause_of(error)):
                    self._release()
                pause = pause_before(error, self._policy, done)
                if pause is None or self._is_over_after(pause):
                    raise
                await workflow.sleep(pause)
                self._reserve()
                self._running = self._start(done)
                done += 1

    def _is_over_after(self, pause: timedelta) -> bool:
        return self._ends_at is not None and workflow.now() + pause >= self._ends_at


def pause_before(error: FailureError, policy: RetryPolicy, done: int) -> timedelta | None:
    """How long to wait before the next dispatch, as the server would; None if there is none.

    Args:
        error: What the last one ended with.
        policy: Of the step.
        done: Dispatches so far.
    """
    if policy.maximum_attempts and done >= policy.maximum_attempts:
        return None
    cause = cause_of(error)
    excluded = policy.non_retryable_error_types or ()
    if isinstance(cause, ApplicationError):
        if cause.non_retryable or cause.type in excluded:
            return None
        if cause.next_retry_delay is not None:
            return cause.next_retry_delay
    elif isinstance(cause, TimeoutError):
        name = RETRIED_TIMEOUTS.get(cause.type) if cause.type is not None else None
        if name is None or name in excluded:
            return None
    else:
        return None
    longest = policy.maximum_interval or policy.initial_interval * LONGEST_INTERVALS
    factor = policy.backoff_coefficient ** (done - 1)
    # a large power of two would not fit into a timedelta
    return longest if policy.initial_interval >= longest / factor else policy.initial_interval * factor
