"""Runs each step in its place: checks the residency once more, opens the region's backends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import structlog
from temporalio import activity
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ActivityOutboundInterceptor, ExecuteActivityInput

from orchestrator.backends import using
from orchestrator.context import StepContext, TokenAllowance, running
from orchestrator.dispatch.failures import as_failure
from orchestrator.dispatch.headers import Assignment
from orchestrator.dispatch.payloads.sizes import checked
from orchestrator.dispatch.site import Publish, Site
from orchestrator.dispatch.steps.handover import assignment_in, forget_assignment
from orchestrator.dispatch.steps.hedging import HEDGE_ACTIVITY
from orchestrator.dispatch.steps.leaving import leaving_if_slow
from orchestrator.errors import BackendError, EdgewardError, OfferMissingError, Recovery
from orchestrator.queues import kind_of, region_of
from orchestrator.streams import StreamPiece

log = structlog.get_logger(__name__)

BEAT = timedelta(milliseconds=500)
"""How often a step that runs says so. A worker sends it on as often as ``HEARTBEAT_THROTTLE`` allows; a
shorter step sends nothing."""

HEARTBEAT_THROTTLE = timedelta(milliseconds=600)
"""Of the workers: three heartbeats fit into the time after which one counts as dead."""


class StepInbound(ActivityInboundInterceptor):
    """Around every activity of a worker.

    Args:
        next: The rest of the chain.
        site: The worker's region and what it has; None in a worker that belongs to no region.
    """

    def __init__(self, next: ActivityInboundInterceptor, site: Site | None) -> None:
        super().__init__(next)
        self._site = site
        self._outbound: ActivityOutboundInterceptor | None = None

    def init(self, outbound: ActivityOutboundInterceptor) -> None:
        """See base class."""
        self._outbound = outbound
        super().init(outbound)

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """See base class."""
        info = activity.info()
        if info.activity_type == HEDGE_ACTIVITY:
            return await super().execute_activity(input)
        assignment = assignment_in(input.headers, info)
        if assignment is None and self._site is None:
            return await super().execute_activity(input)
        if assignment is not None:
            self._refuse_wrong_region(assignment, info)
        step = self._context(assignment, info)
        try:
            with running(step), self._backends():
                result = await self._body(input, info, assignment)
                result = checked(
                    [result],
                    activity.payload_converter(),
                    f"result of step {info.activity_type}",
                    stored=self._site is not None and self._site.region.store is not None,
                )[0]
        except EdgewardError as error:
            with running(step):  # the line says of which run and step
                log.warning("step.failed", error=str(error))
            elsewhere = assignment is not None and assignment.elsewhere
            if isinstance(error, OfferMissingError) and self._stands_in(assignment):
                # the home has it: the step waits for the home, or goes to its next place
                error.recovery = Recovery.ELSEWHERE if elsewhere else Recovery.RETRY_HERE
            raise _as_application_error(error, elsewhere=elsewhere) from error
        if info.is_local:
            forget_assignment(info)
        if self._site is not None:
            again = info.attempt > 1 and not info.is_local
            took_ms = step.stopwatch.execution_ms
            self._site.times.record(info.activity_type, step.region, timedelta(milliseconds=took_ms))
            if isinstance(result, RawValue):
                scheduled_at = info.current_attempt_scheduled_time if again else None
                step.stopwatch.write(result.payload, step.region, took_ms, scheduled_at)
        return result

    def _stands_in(self, assignment: Assignment | None) -> bool:
        """Whether the step is meant for another region, whose runs this one goes on with."""
        return (
            assignment is not None and self._site is not None and assignment.place != self._site.region.name
        )

    def _refuse_wrong_region(self, assignment: Assignment, info: activity.Info) -> None:
        """Fails closed: a step that arrives where its run's data may not be is not run."""
        if self._site is None or assignment.residency.permits(self._site.region):
            return
        if info.is_local and self._stands_in(assignment):
            # the run may be here, and a block of it narrows what this very step may
            raise ApplicationError(
                f"step {info.activity_type} may not run in {self._site.region.name}, which stands in for "
                f"{assignment.place}: it lies outside {assignment.residency}",
                {"rule": "residency", "recovery": Recovery.ELSEWHERE.value},
                type="PlacementError",
                non_retryable=True,
            )
        raise ApplicationError(
            f"step {info.activity_type} arrived in {self._site.region.name}, outside {assignment.residency}; "
            "the queue is polled by a worker of another region: correct the worker's --region",
            {"rule": "residency"},
            type="PlacementError",
            non_retryable=True,
        )

    def _context(self, assignment: Assignment | None, info: activity.Info) -> StepContext:
        region = self._site.region.name if self._site else (region_of(info.task_queue) or "")
        left = _time_left(info)
        tokens = assignment.tokens if assignment else None
        workflow_id = info.workflow_id or info.activity_id
        publish: Callable[[StepContext, str], None] | None = None
        if self._site is not None and self._site.publish is not None:
            root = assignment.root_workflow_id if assignment else workflow_id
            publish = partial(_publish, self._site.publish, root)
        return StepContext(
            workflow_id=workflow_id,
            run_id=info.workflow_run_id or info.activity_id,
            step=info.activity_type,
            activity_id=info.activity_id,
            sequence=assignment.sequence if assignment else 0,
            key=assignment.key if assignment else None,
            attempt=info.attempt + (assignment.retries if assignment else 0),
            region=region,
            dispatch="inline" if info.is_local else "queue",
            publish=publish,
            tokens=TokenAllowance(tokens) if tokens is not None else None,
            ends_at=time.monotonic() + left.total_seconds() if left is not None else None,
        )

    def _backends(self) -> AbstractContextManager[object]:
        """What the step's body finds in this region; nothing in a worker that belongs to none."""
        return nullcontext() if self._site is None else using(self._site.backends)

    def _body(
        self, input: ExecuteActivityInput, info: activity.Info, assignment: Assignment | None
    ) -> Awaitable[Any]:
        if not info.is_local:
            return self._execute_queued(input, info, assignment)
        if self._site is None or assignment is None or assignment.leave_after is None:
            return super().execute_activity(input)
        leaving = leaving_if_slow(
            info.activity_type,
            self._site,
            after=assignment.leave_after,
            others=assignment.leave_to,
            predicted=timedelta(milliseconds=assignment.predicted_ms or 0),
        )
        return self._execute_inside(leaving, input)

    async def _execute_inside(
        self, block: AbstractAsyncContextManager[None], input: ExecuteActivityInput
    ) -> Any:
        async with block:
            return await super().execute_activity(input)

    async def _execute_queued(
        self, input: ExecuteActivityInput, info: activity.Info, assignment: Assignment | None
    ) -> Any:
        """The body of a queued step: counted as busy here, and heard of by the server while it lasts."""
        kind = kind_of(info.task_queue) if self._site is not None else None
        heartbeats = None
        if assignment is not None and assignment.heartbeat and self._outbound is not None:
            heartbeats = _Heartbeats(self._outbound)
        if self._site is not None and kind is not None:
            self._site.busy[kind] += 1
        try:
            return await super().execute_activity(input)
        finally:
            if self._site is not None and kind is not None:
                self._site.busy[kind] -= 1
            if heartbeats is not None:
                heartbeats.stop()


class _Heartbeats:
    """Tells the server that this worker lives, from now on."""

    def __init__(self, outbound: ActivityOutboundInterceptor) -> None:
        self._outbound = outbound
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_later(BEAT.total_seconds(), self._beat)

    def stop(self) -> None:
        """The step has ended."""
        self._next.cancel()

    def _beat(self) -> None:
        self._outbound.heartbeat()
        self._next = self._loop.call_later(BEAT.total_seconds(), self._beat)


def _time_left(info: activity.Info) -> timedelta | None:
    """Until a timeout ends this attempt. Both times are of one clock, the server's for a queued step."""
    left = info.start_to_close_timeout
    total = info.schedule_to_close_timeout
    if total is not None:
        of_all = total - (info.started_time - info.scheduled_time)
        left = of_all if left is None else min(left, of_all)
    return left


def _publish(publish: Publish, root: str, step: StepContext, text: str) -> None:
    publish(
        root,
        StreamPiece(
            text=text,
            step=step.step,
            sequence=step.sequence,
            attempt=step.attempt,
            place=step.region,
            workflow_id=step.workflow_id,
        ),
    )


def _as_application_error(error: EdgewardError, *, elsewhere: bool) -> ApplicationError:
    """The same error as history keeps it: its class is the type; one that is final here is not retried.

    Args:
        error: What the step raised.
        elsewhere: Whether the run places the step again if this place cannot do it.
    """
    if not isinstance(error, BackendError):
        return as_failure(error)
    details = {
        "endpoint": error.endpoint,
        "region": error.region,
        "recovery": error.recovery.value,
        "status": error.status,
    }
    return ApplicationError(
        str(error),
        details,
        type=type(error).__name__,
        non_retryable=error.recovery is Recovery.FINAL
        or (elsewhere and error.recovery is Recovery.ELSEWHERE),
        next_retry_delay=error.retry_after,
    )
