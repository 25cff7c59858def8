"""Spans of other libraries in the same process say nothing of what was said."""

import pytest
from mcp.server.mcpserver import MCPServer
from mcp.shared import _otel as mcp_telemetry
from mcp.shared.exceptions import MCPError
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from orchestrator.backends import Backends, observed
from orchestrator.errors import BackendError
from orchestrator.telemetry import names
from orchestrator.telemetry.discretion import DiscreetExporter
from orchestrator.topology.model import Offer
from tests.backends.conftest import hosting, region

PRIVATE = "a private answer"


@pytest.fixture
def provider(monkeypatch) -> tuple[TracerProvider, InMemorySpanExporter]:
    monkeypatch.delenv(names.CAPTURE_MESSAGE_CONTENT, raising=False)
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(DiscreetExporter(exporter)))
    return provider, exporter


def written(exporter: InMemorySpanExporter) -> str:
    return "\n".join(span.to_json() for span in exporter.get_finished_spans())


async def test_what_an_mcp_server_says_in_an_error_is_on_no_span(provider, monkeypatch):
    """The client's library writes it into the status of its own span."""
    traces, exporter = provider
    monkeypatch.setattr(mcp_telemetry, "_tracer", traces.get_tracer("mcp-python-sdk"))
    monkeypatch.setattr(observed, "_tracer", traces.get_tracer(names.INSTRUMENTATION_SCOPE))
    mcp = MCPServer("rates")

    @mcp.tool()
    def rate() -> str:
        raise MCPError(-32010, PRIVATE)

    with hosting(mcp.streamable_http_app()) as url:
        offer = Offer(kind="tool", name="rate", protocol="mcp", endpoint=f"{url}/mcp")
        async with Backends(region(offer)) as backends:
            with pytest.raises(BackendError):
                await backends.tool("rate").call({})
    spans = {span.name: span for span in exporter.get_finished_spans()}
    theirs, ours = spans["MCP send tools/call rate"], spans["execute_tool rate"]
    assert theirs.parent is not None and theirs.parent.span_id == ours.context.span_id
    assert theirs.status.status_code is StatusCode.ERROR
    assert theirs.attributes is not None and theirs.attributes["error.type"] == "-32010"
    assert PRIVATE not in written(exporter)
    assert ours.status.description is not None and "the server failed" in ours.status.description


@pytest.mark.parametrize("scope", [names.INSTRUMENTATION_SCOPE, "another-library"])
def test_recorded_exceptions_keep_their_type_alone(provider, scope):
    traces, exporter = provider
    with (
        pytest.raises(ValueError, match=PRIVATE),
        traces.get_tracer(scope).start_as_current_span("work", set_status_on_exception=False),
    ):
        raise ValueError(PRIVATE)
    (span,) = exporter.get_finished_spans()
    (event,) = span.events
    assert dict(event.attributes or {}) == {"exception.type": "ValueError", "exception.escaped": "False"}
    assert PRIVATE not in written(exporter)


def test_the_switch_lets_everything_through(provider, monkeypatch):
    traces, exporter = provider
    monkeypatch.setenv(names.CAPTURE_MESSAGE_CONTENT, "true")
    with (
        pytest.raises(ValueError, match=PRIVATE),
        traces.get_tracer("another-library").start_as_current_span("work"),
    ):
        raise ValueError(PRIVATE)
    assert PRIVATE in written(exporter)


def test_spans_that_quote_nothing_go_through_as_they_are(provider):
    traces, exporter = provider
    with traces.get_tracer("another-library").start_as_current_span("work", attributes={"a": 1}):
        pass
    (span,) = exporter.get_finished_spans()
    assert (span.name, dict(span.attributes or {})) == ("work", {"a": 1})
