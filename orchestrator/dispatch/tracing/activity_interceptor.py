"""Spans and metrics of steps, from the worker that runs them: queue wait, attempts, inline steps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import copy_context
from datetime import datetime
from typing import Any

import structlog
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput

from orchestrator.dispatch.headers import Assignment
from orchestrator.dispatch.steps.handover import assignment_in
from orchestrator.dispatch.tracing.spans import Tracing, context_in, error_type, mark_failed
from orchestrator.dispatch.tracing.workflow_interceptor import nanoseconds, step_attributes, traced_run
from orchestrator.errors import ConfigurationError
from orchestrator.queues import region_of
from orchestrator.telemetry import names
from orchestrator.telemetry.spans import NOWHERE, SpanWriter, step_context
from orchestrator.telemetry.step_metrics import count_running, record_part, record_step
from orchestrator.telemetry.told_span import ToldSpan

log = structlog.get_logger(__name__)


class TracingActivityInbound(ActivityInboundInterceptor):
    """Around every activity of a worker.

    Args:
        next: The rest of the chain.
        tracing: What listens in this process.
        region: The worker's, if it has one.
    """

    def __init__(self, next: ActivityInboundInterceptor, tracing: Tracing, region: str | None) -> None:
        super().__init__(next)
        self._tracing = tracing
        self._region = region

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        """See base class."""
        info = activity.info()
        attempt = Attempt(self._tracing, input, info, self._region or region_of(info.task_queue) or "")
        token = contexts.attach(trace.set_span_in_context(attempt.span, NOWHERE))
        count_running(attempt.place, attempt.dispatch, 1)
        try:
            result = await super().execute_activity(input)
        except BaseException as error:
            attempt.end(error)
            raise
        else:
            attempt.end(None)
            return result
        finally:
            count_running(attempt.place, attempt.dispatch, -1)
            contexts.detach(token)


class Attempt:
    """One attempt of a step while it runs.

    What its body does not need is told a moment later: nothing waits for it then, where the body waits for
    something or the step has ended (bench ``telemetry``).

    Args:
        tracing: What listens in this process.
        input: Of the activity.
        info: Of the activity.
        region: Where it runs.
    """

    def __init__(
        self, tracing: Tracing, input: ExecuteActivityInput, info: activity.Info, region: str
    ) -> None:
        self._measures = tracing.measures
        self._writer = tracing.writer
        self._info = info
        self._run = traced_run(info.workflow_run_id) if info.is_local else None
        self._assignment = _assignment(input, info)
        assigned = self._assignment.place if self._assignment is not None else None
        self.place = assigned or region
        self.dispatch = names.DISPATCH_INLINE if info.is_local else names.DISPATCH_QUEUE
        self.span: Span = trace.INVALID_SPAN
        self._began = time.monotonic()
        self._delivery_s, self._skew_s = (0.0, 0.0) if info.is_local else _delivery(info)
        if tracing.writer is not None:
            self.span = (
                self._inline_span(tracing.writer)
                if info.is_local
                else self._queued_span(tracing.writer, context_in(input.headers))
            )
            if assigned is not None and region and assigned != region:
                self._tell_other_region(assigned, region)

    def end(self, error: BaseException | None) -> None:
        """It has ended, well or not."""
        took_s, ended_ns = time.monotonic() - self._began, time.time_ns()
        if self._run is None:
            _soon(self._tell_end, took_s, ended_ns, error)
        else:
            context = copy_context()
            self._run.inline_later(lambda: context.run(self._tell_end, took_s, ended_ns, error))

    def _tell_end(self, took_s: float, ended_ns: int, error: BaseException | None) -> None:
        kind = None if error is None else error_type(error)
        if self.span.is_recording():
            if self._info.is_local and isinstance(self.span, ToldSpan):
                self.span.supplement(self._inline_attributes())
            if error is not None and kind is not None:
                mark_failed(self.span, error, kind)
            self.span.end(ended_ns)
        if self._measures:
            self._record(took_s, kind)

    def _inline_span(self, writer: SpanWriter) -> Span:
        """The step's own: the only span that it has. Its id is random: a step that runs twice has two."""
        run = self._run
        return writer.start(
            f"{names.STEP_SPAN} {self._info.activity_type}",
            NOWHERE if run is None else run.position.context,
            {} if run is not None else self._attributes(),
            sampled=None if run is None else run.position.sampled,
        )

    def _inline_attributes(self) -> dict[str, AttributeValue]:
        info = self._info
        attributes = self._attributes()
        if self._writer is not None and not self._writer.claim(
            (info.workflow_run_id, info.activity_id, info.attempt)
        ):
            attributes[names.REPEATED] = True
        if self._run is not None:
            attributes.update(self._run.placed(info.activity_type))
        return attributes

    def _queued_span(self, writer: SpanWriter, run: Context) -> Span:
        """The attempt's, below that of its step, beside that of its queue wait."""
        info = self._info
        step = step_context(run, info.workflow_run_id or "", info.activity_id)
        attributes = self._attributes()
        scheduled_ns, started_ns = map(nanoseconds, (info.current_attempt_scheduled_time, info.started_time))
        wait_ms = max(0.0, (started_ns - scheduled_ns) / 1e6)
        attributes[names.QUEUE_WAIT_MS] = round(wait_ms, 3)
        _soon(_tell_wait, writer, info.activity_type, step, dict(attributes), scheduled_ns, started_ns)
        attributes[names.DELIVERY_MS] = round(self._delivery_s * 1000, 3)
        if self._skew_s:
            attributes[names.CLOCK_SKEW_MS] = round(self._skew_s * 1000, 3)
        return writer.start(
            f"{names.ATTEMPT_SPAN} {info.activity_type}", step, attributes, kind=SpanKind.SERVER
        )

    def _attributes(self) -> dict[str, AttributeValue]:
        info = self._info
        attributes = step_attributes(
            info.activity_type, info.workflow_id or info.activity_id, self._assignment
        )
        attributes[names.DISPATCH] = self.dispatch
        attributes[names.ATTEMPT] = info.attempt
        return attributes

    def _tell_other_region(self, assigned: str, region: str) -> None:
        log.warning(
            "step.ran_elsewhere",
            step=self._info.activity_type,
            place=assigned,
            ran_in=region,
            remedy="the queue is polled by a worker of another region: correct the worker's --region",
        )
        if self.span.is_recording():
            self.span.set_attribute(names.RAN_IN, region)
            self.span.add_event(names.EMITTED_ELSEWHERE_EVENT, {names.PLACE: assigned, names.RAN_IN: region})

    def _record(self, took_s: float, kind: str | None) -> None:
        attributes = {
            names.STEP_NAME: self._info.activity_type,
            names.PLACE: self.place,
            names.DISPATCH: self.dispatch,
        }
        if kind is not None:
            attributes[names.ERROR_TYPE] = kind
        record_part(names.EXECUTION_PART, took_s, attributes)
        if self._info.is_local:
            predicted_ms = self._assignment.predicted_ms if self._assignment is not None else None
            record_step(took_s, None if predicted_ms is None else predicted_ms / 1000, attributes)
            return
        waited_s = _seconds(self._info.current_attempt_scheduled_time, self._info.started_time)
        record_part(names.QUEUE_WAIT_PART, waited_s, attributes)
        record_part(names.DELIVERY_PART, self._delivery_s, attributes)


def _soon(tell: Callable[..., None], *told: object) -> None:
    """In the context of now, when the event loop comes to it."""
    asyncio.get_running_loop().call_soon(tell, *told)


def _tell_wait(
    writer: SpanWriter,
    step: str,
    context: Context,
    attributes: dict[str, AttributeValue],
    scheduled_ns: int,
    started_ns: int,
) -> None:
    name = f"{names.QUEUE_WAIT_SPAN} {step}"
    writer.start(name, context, attributes, start_ns=min(scheduled_ns, started_ns)).end(started_ns)


def _assignment(input: ExecuteActivityInput, info: activity.Info) -> Assignment | None:
    try:
        return assignment_in(input.headers, info)
    except (ApplicationError, ConfigurationError):
        return None  # the step fails by it, further in


def _seconds(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())


def _delivery(info: activity.Info) -> tuple[float, float]:
    """From the server's hand to here, in seconds, and how far this clock is behind the server's."""
    took_s = time.time() - info.started_time.timestamp()
    return (took_s, 0.0) if took_s >= 0 else (0.0, -took_s)
