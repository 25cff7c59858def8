"""A step whose calls are noted, and spans that stay in memory."""

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanContext

from orchestrator.context import StepContext
from orchestrator.timing import CallTiming
from tests.backends.double import Request


def a_step() -> StepContext:
    return StepContext(
        workflow_id="w",
        run_id="run",
        step="answer",
        activity_id="1",
        sequence=4,
        attempt=1,
        region="eu-central",
        dispatch="queue",
    )


def calls_of(step: StepContext) -> tuple[CallTiming, ...]:
    return step.stopwatch.calls


class Recorded:
    """Spans that ended."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self._provider.get_tracer("edgeward")

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> ReadableSpan:
        (span,) = (span for span in self.all() if span.name == name)
        return span

    def everything(self) -> str:
        return "\n".join(span.to_json() for span in self.all())


def traceparent(span: SpanContext) -> str:
    """As an endpoint below this span should have received it."""
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def received(request: Request) -> str | None:
    return request.headers.get("traceparent")
