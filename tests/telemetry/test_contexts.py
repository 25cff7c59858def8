"""A run's context travels as W3C Trace Context, as OpenTelemetry's own propagator writes and reads it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from orchestrator.telemetry.spans import NOWHERE, read, written

propagator = TraceContextTextMapPropagator()

spans = st.builds(
    SpanContext,
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.booleans(),
    st.integers(0, 255).map(TraceFlags),
    st.none() | st.just(TraceState([("vendor", "value")])),
)


def span_of(context: Context) -> SpanContext:
    return trace.get_current_span(context).get_span_context()


@given(spans)
def test_what_is_written_and_read_is_what_the_propagator_would(span: SpanContext) -> None:
    context = trace.set_span_in_context(NonRecordingSpan(span), NOWHERE)
    carrier: dict[str, str] = {}
    propagator.inject(carrier, context)
    assert json.loads(written(context)) == carrier
    assert span_of(read(written(context))) == span_of(propagator.extract(carrier, NOWHERE))


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_what_another_sdk_wrote_is_read(separators: tuple[str, str]) -> None:
    carrier = {"traceparent": f"00-{7:032x}-{8:016x}-01", "tracestate": "vendor=value"}
    for said in (carrier, {"traceparent": carrier["traceparent"]}):
        found = span_of(read(json.dumps(said, separators=separators).encode()))
        assert (found.trace_id, found.span_id, found.trace_flags.sampled) == (7, 8, True)
        assert found.trace_state.get("vendor") == ("value" if "tracestate" in said else None)


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b"\xff", b'{"traceparent": 1}', b'{"traceparent": "00-1"}']
)
def test_what_cannot_be_read_has_no_span(data: bytes) -> None:
    assert not span_of(read(data)).is_valid
