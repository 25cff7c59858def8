"""A span of a run or a step: with ids that are chosen, and cheap enough for every step.

The SDK's own lets nobody choose its id, and takes long for what is known to be right (bench ``telemetry``).
What is exported is the SDK's ``ReadableSpan`` all the same, through the same processors.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import cast

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Tracer
from opentelemetry.sdk.trace import Span as SdkSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.semconv.attributes import exception_attributes
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue

from orchestrator.telemetry import names

_SCOPE = InstrumentationScope(names.INSTRUMENTATION_SCOPE, "")
_UNSET = Status(StatusCode.UNSET)


class ToldSpan(Span):
    """One span while it goes on. A step's code may add to it, as to any current span.

    Args:
        tracer: Whose resource and processors it has.
        name: Of the span.
        context: Its own.
        parent: Of the span above.
        kind: Of the span.
        attributes: Are its own from now on.
        start_ns: When it began, since 1970.
        links: To other spans.
    """

    def __init__(
        self,
        tracer: Tracer,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        *,
        kind: SpanKind,
        attributes: dict[str, AttributeValue],
        start_ns: int,
        links: Sequence[Link],
    ) -> None:
        self._tracer = tracer
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes = attributes
        self._start_ns = start_ns
        self._links = list(links)
        self._events: list[Event] = []
        self._status = _UNSET
        self._recording = True

    def begin(self, parent: Context) -> None:
        """Tells the processors."""
        # some add attributes there; that is all they can do with it
        self._tracer.span_processor.on_start(cast("SdkSpan", self), parent)

    def get_span_context(self) -> SpanContext:
        """See base class."""
        return self._context

    def is_recording(self) -> bool:
        """See base class."""
        return self._recording

    def supplement(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Says what a step's own code did not say of it, when nobody waits for that any more."""
        if self._recording:
            self._attributes = {**attributes, **self._attributes}

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """See base class."""
        if self._recording:
            self._attributes.update(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """See base class."""
        if self._recording:
            self._attributes[key] = value

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """See base class."""
        if self._recording:
            self._events.append(Event(name, attributes, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """See base class."""
        if self._recording:
            self._links.append(Link(context, attributes))

    def update_name(self, name: str) -> None:
        """See base class."""
        if self._recording:
            self._name = name

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """See base class."""
        if self._recording:
            self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """See base class. Its message, which may quote a conversation, is left out."""
        said = {exception_attributes.EXCEPTION_TYPE: type(exception).__qualname__, **(attributes or {})}
        self.add_event("exception", said, timestamp)

    def end(self, end_time: int | None = None) -> None:
        """See base class."""
        if not self._recording:
            return
        self._recording = False
        self._tracer.span_processor.on_end(
            ReadableSpan(
                name=self._name,
                context=self._context,
                parent=self._parent,
                resource=self._tracer.resource,
                attributes=self._attributes,
                events=self._events,
                links=self._links,
                kind=self._kind,
                status=self._status,
                start_time=self._start_ns,
                end_time=time.time_ns() if end_time is None else end_time,
                instrumentation_scope=_SCOPE,
            )
        )
