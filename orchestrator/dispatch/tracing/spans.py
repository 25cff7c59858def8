"""Spans and metrics of runs, where telemetry is on: what the interceptors share, and the client's side.

A run's tree: the client's span → the run's → its steps' → a queued step's queue wait and attempts → calls
to backends. Each is emitted when it has ended, by the process that sees it end.

The context travels in the header that Temporal's own SDKs use for theirs, in W3C form, so that a run
that was started with another SDK's interceptor belongs to its caller's trace as well.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.util.types import AttributeValue
from temporalio.api.common.v1 import Payload
from temporalio.client import (
    Interceptor,
    OutboundInterceptor,
    StartWorkflowInput,
    StartWorkflowUpdateWithStartInput,
    UpdateWithStartStartWorkflowInput,
    WorkflowHandle,
    WorkflowUpdateHandle,
)
from temporalio.exceptions import ApplicationError, CancelledError, FailureError, TimeoutError

from orchestrator.errors import EdgewardError
from orchestrator.placement import Plan
from orchestrator.telemetry import names
from orchestrator.telemetry.spans import NOWHERE, SpanWriter, read, span_writer, written
from orchestrator.telemetry.step_metrics import measuring

TRACE_HEADER = "_tracer-data"


@dataclass(frozen=True)
class Tracing:
    """What listens in this process."""

    writer: SpanWriter | None
    """None where no tracer provider takes spans."""

    measures: bool
    """Whether a meter provider takes metrics."""


def active_tracing() -> Tracing | None:
    """What the global providers take at this moment; None where nobody listens."""
    writer, measures = span_writer(), measuring()
    return Tracing(writer, measures) if writer is not None or measures else None


def trace_payload(context: Context) -> Payload:
    """A header that carries a context."""
    return Payload(metadata={"encoding": b"json/plain"}, data=written(context))


def context_in(headers: Mapping[str, Payload]) -> Context:
    """The context that headers carry; an empty one if they carry none."""
    payload = headers.get(TRACE_HEADER)
    return NOWHERE if payload is None else read(payload.data)


def error_type(error: BaseException) -> str:
    """What ``error.type`` says: a class's name, as history keeps it."""
    while isinstance(error, FailureError) and error.cause is not None and not _says_itself(error):
        error = error.cause
    if isinstance(error, ApplicationError) and error.type:
        return error.type
    if isinstance(error, TimeoutError) and error.type is not None:
        return f"TemporalTimeout:{error.type.name.title().replace('_', '')}"
    return type(error).__name__


def _says_itself(error: FailureError) -> bool:
    return isinstance(error, ApplicationError | TimeoutError | CancelledError)


def mark_failed(span: Span, error: BaseException, kind: str) -> None:
    """Says on a span what it ended with. Messages of others than ours may quote contents: left out."""
    span.set_attribute(names.ERROR_TYPE, kind)
    if kind == CancelledError.__name__:
        return
    cause = error if isinstance(error, EdgewardError) else error.__cause__
    span.set_status(Status(StatusCode.ERROR, str(cause) if isinstance(cause, EdgewardError) else None))


_invocation: ContextVar[Span | None] = ContextVar("edgeward_invocation", default=None)
"""The client's span of the run that is started in this block."""


@contextmanager
def invoking(plan: Plan, workflow_id: str) -> Generator[None]:
    """The client's span of a run lasts as long as this block; without one, as long as its start."""
    tracing = active_tracing() if _invocation.get() is None else None
    if tracing is None or tracing.writer is None:
        yield
        return
    attributes = {
        names.HOME: plan.home,
        names.PREDICTED_MS: round(plan.latency_ms, 3),
        names.RESIDENCY: str(plan.root.residency),
    }
    with _client_span(tracing.writer, plan.root.agent, workflow_id, attributes):
        yield


@contextmanager
def _client_span(
    writer: SpanWriter, agent: str, workflow_id: str, attributes: Mapping[str, AttributeValue]
) -> Generator[Span]:
    span = writer.start_client(
        f"{names.INVOKE_AGENT} {agent}",
        {
            names.OPERATION_NAME: names.INVOKE_AGENT,
            names.AGENT_NAME: agent,
            names.RUN_ID: workflow_id,
            **attributes,
        },
    )
    token = _invocation.set(span)
    try:
        yield span
    except BaseException as error:
        mark_failed(span, error, error_type(error))
        raise
    finally:
        _invocation.reset(token)
        span.end()


class TracingClient(Interceptor):
    """The client's side."""

    def __init__(self, writer: SpanWriter) -> None:
        self._writer = writer

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:
        """See base class."""
        return _TracingClientOutbound(next, self._writer)


class _TracingClientOutbound(OutboundInterceptor):
    def __init__(self, next: OutboundInterceptor, writer: SpanWriter) -> None:
        super().__init__(next)
        self._writer = writer

    async def start_workflow(self, input: StartWorkflowInput) -> WorkflowHandle[Any, Any]:
        with self._invoked(input):
            return await super().start_workflow(input)

    async def start_update_with_start_workflow(
        self, input: StartWorkflowUpdateWithStartInput
    ) -> WorkflowUpdateHandle[Any]:
        with self._invoked(input.start_workflow_input):
            return await super().start_update_with_start_workflow(input)

    @contextmanager
    def _invoked(self, input: StartWorkflowInput | UpdateWithStartStartWorkflowInput) -> Generator[None]:
        span = _invocation.get()
        if span is not None:
            _carry(input, span)
            yield
            return
        with _client_span(self._writer, input.workflow, input.id, {}) as span:
            _carry(input, span)
            yield


def _carry(input: StartWorkflowInput | UpdateWithStartStartWorkflowInput, span: Span) -> None:
    header = trace_payload(trace.set_span_in_context(span, NOWHERE))
    input.headers = {**input.headers, TRACE_HEADER: header}
