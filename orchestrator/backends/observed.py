"""What is told of a call to a backend: on the step's stopwatch, as a span and in the metrics.

Spans and metrics go through the OpenTelemetry API: where no provider is set, they are nothing.
What is asked and answered is in none of them unless the environment says so; see ``contents``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.trace import Span, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from orchestrator.backends.operations import Attributes, Operation
from orchestrator.context import StepContext, current_step
from orchestrator.errors import EdgewardError
from orchestrator.telemetry import call_metrics, names
from orchestrator.timing import CallTiming

_tracer = trace.get_tracer(names.INSTRUMENTATION_SCOPE)

# Not the propagators that the environment names: baggage is not for whoever serves a model.
_propagator = TraceContextTextMapPropagator()


class Call:
    """One call while it goes on: a block that tells of itself when it is left.

    Sets nothing for the code in its block, so that an asynchronous generator may hold it open.

    Args:
        operation: What it is.
        part_of: The call that encloses it, if one does.
    """

    def __init__(self, operation: Operation, part_of: Call | None = None) -> None:
        self.retries = 0
        self._operation = operation
        self._part_of = part_of
        self._step = current_step() if operation.noted else None
        self._span: Span = trace.INVALID_SPAN
        self._began = 0.0
        self._connect_s: float | None = None
        self._first_s: float | None = None
        self._input_tokens: int | None = None
        self._output_tokens: int | None = None
        self._said: dict[str, str | int] = {}

    def __enter__(self) -> Self:
        operation = self._operation
        if operation.span is not None:
            above = None if self._part_of is None else trace.set_span_in_context(self._part_of.span)
            self._span = _tracer.start_span(operation.span, above, operation.span_kind, operation.attributes)
        self._began = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        took_s = time.monotonic() - self._began
        # Whoever reads a stream may stop before its end: nothing failed.
        failure = None if error is None or isinstance(error, GeneratorExit) else error
        if self._step is not None:
            self._note(self._step, took_s, failure)
        if self._span.is_recording():
            self._finish_span(failure)
        self._measure(took_s, failure)

    @property
    def span(self) -> Span:
        """Of this call, or the one around it if calls of its kind have none."""
        return self._span if self._operation.span is not None else trace.get_current_span()

    @property
    def recorded(self) -> bool:
        """Whether somebody listens, so that it is worth while to find out more."""
        return self._span.is_recording()

    def headers(self) -> dict[str, str]:
        """The HTTP headers that carry the trace to the endpoint; none without a trace."""
        span = self.span
        if not span.get_span_context().is_valid:
            return {}
        carrier: dict[str, str] = {}
        _propagator.inject(carrier, trace.set_span_in_context(span))
        return carrier

    def sent_again(self) -> None:
        """The request is repeated."""
        self.retries += 1

    def connected(self, took_s: float) -> None:
        """A connection was opened for it, in so many seconds."""
        self._connect_s = (self._connect_s or 0.0) + took_s

    def first_piece(self) -> None:
        """A piece of a streamed answer came; the first one counts."""
        if self._first_s is None:
            self._first_s = time.monotonic() - self._began

    def used(self, input_tokens: int | None, output_tokens: int | None) -> None:
        """The tokens that the endpoint says it read and wrote; of several requests their sum."""
        if input_tokens is not None:
            self._input_tokens = (self._input_tokens or 0) + input_tokens
        if output_tokens is not None:
            self._output_tokens = (self._output_tokens or 0) + output_tokens

    def answered_by(self, model: str) -> None:
        """What the endpoint says has answered."""
        if model:
            self._said[names.RESPONSE_MODEL] = model

    def refused_with(self, state: str) -> None:
        """The state that a database gave with its error."""
        if state:
            self._said[names.DB_RESPONSE_STATUS_CODE] = state

    def describe(self, attributes: Mapping[str, AttributeValue | None]) -> None:
        """Says more on the span, if anybody listens; what is None is left out."""
        if self._span.is_recording():
            self._span.set_attributes({key: value for key, value in attributes.items() if value is not None})

    def _note(self, step: StepContext, took_s: float, failure: BaseException | None) -> None:
        step.stopwatch.note(
            CallTiming(
                kind=self._operation.kind,
                name=self._operation.offer,
                operation=self._operation.name,
                began_ms=round(step.stopwatch.since_start_ms(self._began), 3),
                took_ms=round(took_s * 1000, 3),
                connect_ms=_ms(self._connect_s),
                first_token_ms=_ms(self._first_s),
                input_tokens=self._input_tokens,
                output_tokens=self._output_tokens,
                retries=self.retries,
                error=None if failure is None else type(failure).__name__,
            )
        )

    def _finish_span(self, failure: BaseException | None) -> None:
        self._span.set_attributes(self._said)
        self.describe(
            {
                names.RESPONSE_TIME_TO_FIRST_CHUNK: self._first_s,
                names.USAGE_INPUT_TOKENS: self._input_tokens,
                names.USAGE_OUTPUT_TOKENS: self._output_tokens,
                names.CALL_RETRIES: self.retries or None,
            }
        )
        if failure is not None:
            self._span.set_attribute(names.ERROR_TYPE, type(failure).__name__)
            # Errors of others may quote what was asked; ours never do.
            said = str(failure) if isinstance(failure, EdgewardError) else None
            self._span.set_status(Status(StatusCode.ERROR, said))
        self._span.end()

    def _measure(self, took_s: float, failure: BaseException | None) -> None:
        operation = self._operation
        if operation.duration is None or operation.measured is None:
            return
        attributes: Attributes = operation.measured
        if self._said:
            attributes = {**attributes, **self._said}
        if failure is not None:
            attributes = {**attributes, names.ERROR_TYPE: type(failure).__name__}
        operation.duration.record(took_s, attributes)
        if self._first_s is not None:
            call_metrics.record_first_chunk(self._first_s, attributes)
        if self._input_tokens is not None or self._output_tokens is not None:
            call_metrics.record_tokens(self._input_tokens, self._output_tokens, attributes)


class ConnectionWatch:
    """What the HTTP client's core does for one request: whether it opens a connection, and how long it takes.

    Attributes:
        opened: Whether it opened one, rather than take one from the pool.
        answered: Whether an answer began.
    """

    def __init__(self, call: Call | None = None) -> None:
        self.opened = False
        self.answered = False
        self._call = call
        self._began = 0.0

    async def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called at each thing that it does, as the request's extension ``trace``."""
        del info
        if event.startswith(("connection.connect", "connection.start_tls")):
            self.opened = True
            if event.endswith(".started"):
                self._began = time.monotonic()
            elif self._call is not None:
                self._call.connected(time.monotonic() - self._began)
        elif event.endswith("receive_response_headers.complete"):
            self.answered = True


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)
