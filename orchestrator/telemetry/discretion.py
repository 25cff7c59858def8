"""Keeps what users and models said out of spans that others make in the worker's process.

Libraries below Edgeward have spans of their own: the MCP client puts a server's error message into the
status of its span, and recorded exceptions quote their messages. Both may hold a conversation.
"""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.semconv.attributes import exception_attributes
from opentelemetry.trace import Status

from orchestrator.telemetry import names
from orchestrator.telemetry.switches import contents_captured

_QUOTING = frozenset({exception_attributes.EXCEPTION_MESSAGE, exception_attributes.EXCEPTION_STACKTRACE})


class DiscreetExporter(SpanExporter):
    """Exports spans without what may quote a conversation, unless the standard switch lets it.

    Of spans that are not Edgeward's it leaves the description of the status out, of all spans the
    messages and stack traces of exceptions. Types of errors stay.

    Args:
        exporter: Where the spans go.
    """

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """See base class."""
        if not contents_captured():
            spans = [_discreet(span) for span in spans]
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        """See base class."""
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """See base class."""
        return self._exporter.force_flush(timeout_millis)


def _discreet(span: ReadableSpan) -> ReadableSpan:
    scope = span.instrumentation_scope
    ours = scope is not None and scope.name == names.INSTRUMENTATION_SCOPE
    described = span.status.description is not None and not ours
    quoting = any(_QUOTING & set(event.attributes or {}) for event in span.events)
    if not described and not quoting:
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=[_without_quotes(event) for event in span.events],
        links=span.links,
        kind=span.kind,
        status=Status(span.status.status_code) if described else span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=scope,
    )


def _without_quotes(event: Event) -> Event:
    kept = {key: value for key, value in (event.attributes or {}).items() if key not in _QUOTING}
    return Event(event.name, kept, event.timestamp)
