"""Spans and metrics of calls to backends, and the trace that goes along with the requests."""

import asyncio
import json
import subprocess
import sys

import pytest
from mcp.server.mcpserver import Context, MCPServer
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

from orchestrator import errors
from orchestrator.backends import Backends, Message, Point, ToolCall
from orchestrator.telemetry import names
from orchestrator.topology.model import Offer
from tests.backends import double as doubles
from tests.backends.conftest import hosting, region
from tests.backends.observation import received, traceparent
from tests.shared_data import CHECKOUT

SECRET = "sk-a-secret-key"
PRIVATE = "a private question"
ASKED = [Message.system("Be brief."), Message.user(PRIVATE)]


@pytest.fixture
async def backends(double, monkeypatch):
    monkeypatch.delenv(names.CAPTURE_MESSAGE_CONTENT, raising=False)
    monkeypatch.setenv("MODEL_KEY", SECRET)
    offers = [
        Offer(kind="model", name="chat", endpoint=f"{double.url}/v1", target="smol", secret_env="MODEL_KEY"),
        Offer(kind="tool", name="weather", endpoint=double.url, secret_env="MODEL_KEY"),
    ]
    async with Backends(region(*offers)) as backends:
        yield backends


async def test_a_chat_has_the_conventions_names(backends, double, spans):
    double.answer_with(doubles.completion("a private answer"))
    await backends.model("chat").chat(ASKED, max_tokens=7, temperature=0.5, seed=3)
    span = spans.named("chat smol")
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "smol",
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.seed": 3,
        "gen_ai.response.model": "double",
        "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 2,
        "server.address": "127.0.0.1",
        "server.port": double.port,
        "edgeward.offer": "chat",
        "edgeward.place": "eu-central",
    }
    assert span.status.status_code is StatusCode.UNSET


async def test_a_streamed_chat_says_when_its_first_piece_came_and_what_was_cached(backends, double, spans):
    usage = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}}
    end = json.dumps({"id": "chatcmpl-1", "model": "double", "choices": [], "usage": usage})
    double.answer_with(
        doubles.events(doubles.chunk("Par"), doubles.chunk("is"), doubles.chunk(None, "stop"), end, "[DONE]")
    )
    await backends.model("chat").chat_streaming(ASKED)
    span = spans.named("chat smol")
    assert span.attributes["gen_ai.request.stream"] is True
    assert span.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert span.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 4
    assert span.attributes["gen_ai.usage.output_tokens"] == 2


async def test_the_trace_goes_on_at_a_real_server(backends, double, spans):
    """Parents: what was current when the call began; the endpoint's parent is the call's span."""
    double.answer_with(doubles.completion("Paris"), doubles.as_json({"sunny": True}))
    above = spans.tracer.start_span("step")
    token = contexts.attach(trace.set_span_in_context(above))
    try:
        await backends.model("chat").chat(ASKED)
        await backends.tool("weather").call({"city": "Lisbon"})
    finally:
        contexts.detach(token)
    chat, tool = spans.named("chat smol"), spans.named("execute_tool weather")
    for span, request in zip([chat, tool], double.requests, strict=True):
        assert span.parent.span_id == above.get_span_context().span_id
        assert received(request) == traceparent(span.context)
        assert "baggage" not in request.headers


async def test_without_a_provider_nothing_is_sent_along(backends, double):
    double.answer_with(doubles.completion("Paris"))
    await backends.model("chat").chat(ASKED)
    assert received(double.requests[0]) is None


async def test_a_step_that_is_traced_elsewhere_hands_its_trace_on(backends, double):
    """Without a provider here, a parent that came from outside still reaches the endpoint."""
    double.answer_with(doubles.completion("Paris"))
    parent = TracerProvider().get_tracer("elsewhere").start_span("client").get_span_context()
    token = contexts.attach(trace.set_span_in_context(trace.NonRecordingSpan(parent)))
    try:
        await backends.model("chat").chat(ASKED)
    finally:
        contexts.detach(token)
    assert received(double.requests[0]) == traceparent(parent)


@pytest.mark.parametrize("way", ["chat", "chat_streaming", "embed", "tool"])
async def test_a_failure_is_on_the_span(backends, double, spans, way):
    double.answer_with(doubles.status(429, json.dumps({"error": {"message": PRIVATE, "type": "rate"}})))
    with pytest.raises(errors.BackendOverloadedError):
        if way == "tool":
            await backends.tool("weather").call({"city": PRIVATE})
        elif way == "embed":
            await backends.model("chat").embed([PRIVATE])
        else:
            await getattr(backends.model("chat"), way)(ASKED)
    (span,) = spans.all()
    assert span.attributes["error.type"] == "BackendOverloadedError"
    assert span.status.status_code is StatusCode.ERROR
    assert "HTTP 429" in span.status.description
    assert PRIVATE not in spans.everything()
    assert not span.events


async def test_a_stream_that_is_left_early_ends_its_span_without_error(backends, double, spans):
    double.answer_with(doubles.events(doubles.chunk("Par"), doubles.chunk("is", "stop"), "[DONE]"))
    pieces = backends.model("chat").stream(ASKED)
    await anext(pieces)
    await pieces.aclose()
    assert spans.named("chat smol").status.status_code is StatusCode.UNSET


async def talk(backends, double) -> None:
    """A conversation with a tool call, an embedding and a tool that answers."""
    calls = [{"id": "call-1", "function": {"name": "weather", "arguments": '{"city": "a private city"}'}}]
    double.answer_with(
        doubles.completion(None, "tool_calls", tool_calls=calls),
        doubles.events(doubles.chunk("a private "), doubles.chunk("answer", "stop"), "[DONE]"),
        doubles.as_json({"data": [{"index": 0, "embedding": [1.0]}]}),
        doubles.as_json({"sunny": "a private forecast"}),
    )
    call = ToolCall(id="call-0", name="weather", arguments={"city": "a private city"})
    said = [
        *ASKED,
        Message.assistant(tool_calls=[call]),
        Message.tool("a private forecast", tool_call_id="call-0"),
    ]
    await backends.model("chat").chat(said)
    await backends.model("chat").chat_streaming(ASKED)
    await backends.model("chat").embed([PRIVATE])
    await backends.tool("weather").call({"city": "a private city"})


@pytest.mark.parametrize("switch", [None, "", "false", "NO_CONTENT", "EVENT_ONLY"])
async def test_contents_and_secrets_are_on_no_span(backends, double, spans, monkeypatch, switch):
    if switch is not None:
        monkeypatch.setenv(names.CAPTURE_MESSAGE_CONTENT, switch)
    await talk(backends, double)
    assert len(spans.all()) == 4
    assert "private" not in spans.everything()
    assert SECRET not in spans.everything()


@pytest.mark.parametrize("switch", ["true", "True", "SPAN_ONLY", "SPAN_AND_EVENT"])
async def test_the_switch_of_the_conventions_turns_contents_on_but_never_secrets(
    backends, double, spans, monkeypatch, switch
):
    monkeypatch.setenv(names.CAPTURE_MESSAGE_CONTENT, switch)
    await talk(backends, double)
    asked, streamed, _, tool = spans.all()
    assert json.loads(asked.attributes["gen_ai.input.messages"]) == [
        {"role": "system", "parts": [{"type": "text", "content": "Be brief."}]},
        {"role": "user", "parts": [{"type": "text", "content": PRIVATE}]},
        {
            "role": "assistant",
            "parts": [
                {
                    "type": "tool_call",
                    "id": "call-0",
                    "name": "weather",
                    "arguments": {"city": "a private city"},
                }
            ],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": "call-0", "response": "a private forecast"}],
        },
    ]
    (wanted,) = json.loads(asked.attributes["gen_ai.output.messages"])
    assert wanted["finish_reason"] == "tool_call"
    assert wanted["parts"][0]["arguments"] == {"city": "a private city"}
    (said,) = json.loads(streamed.attributes["gen_ai.output.messages"])
    assert said == {
        "role": "assistant",
        "parts": [{"type": "text", "content": "a private answer"}],
        "finish_reason": "stop",
    }
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"city": "a private city"}
    assert "a private forecast" in tool.attributes["gen_ai.tool.call.result"]
    assert SECRET not in spans.everything()


async def test_a_tool_says_what_it_is(backends, double, spans):
    double.answer_with(doubles.as_json({"sunny": True}))
    await backends.tool("weather").call({"city": "Lisbon"})
    span = spans.named("execute_tool weather")
    assert span.attributes["gen_ai.operation.name"] == "execute_tool"
    assert span.attributes["gen_ai.tool.name"] == "weather"
    assert span.attributes["gen_ai.tool.type"] == "extension"
    assert span.attributes["server.port"] == double.port


async def test_an_mcp_server_gets_the_trace_with_each_call(spans):
    seen: list[tuple[str | None, str | None]] = []
    mcp = MCPServer("rates")

    @mcp.tool()
    async def rate(context: Context) -> str:
        request = context.request_context.request
        meta = context.request_context.meta or {}
        seen.append((request.headers.get("traceparent"), meta.get("traceparent")))
        return "1.1"

    with hosting(mcp.streamable_http_app()) as url:
        offer = Offer(kind="tool", name="rate", protocol="mcp", endpoint=f"{url}/mcp")
        async with Backends(region(offer)) as backends:
            for _ in range(2):
                await backends.tool("rate").call({})
    first, second = spans.all()
    assert first.name == second.name == "execute_tool rate"
    assert [header for header, _ in seen] == [traceparent(first.context), traceparent(second.context)]
    assert [meta for _, meta in seen] == [traceparent(first.context), traceparent(second.context)]


@pytest.mark.parametrize("store", ["qdrant-edge", "pgvector"])
async def test_a_retrieval_is_around_the_stores_own_span(store, tmp_path, request, spans):
    endpoint = request.getfixturevalue("postgres_url") if store == "pgvector" else f"file://{tmp_path}/index"
    offer = Offer(kind="collection", name="handbook", endpoint=endpoint, target="spans")
    async with Backends(region(offer)) as backends:
        collection = backends.collection("handbook")
        await collection.upsert([Point(id="north", vector=(0, 1), payload={"text": PRIVATE})], create=True)
        await collection.search([0, 1], limit=3)
    system, command, kind = {
        "qdrant-edge": ("qdrant", "query", SpanKind.INTERNAL),
        "pgvector": ("postgresql", "SELECT", SpanKind.CLIENT),
    }[store]
    retrieval, query = spans.named("retrieval handbook"), spans.named(f"{command} spans")
    assert query.parent.span_id == retrieval.context.span_id
    assert retrieval.kind is query.kind is kind
    assert retrieval.attributes["gen_ai.operation.name"] == "retrieval"
    assert retrieval.attributes["gen_ai.retrieval.top_k"] == 3
    assert (
        retrieval.attributes["gen_ai.data_source.id"]
        == query.attributes["gen_ai.data_source.id"]
        == "handbook"
    )
    assert query.attributes["db.system.name"] == system
    assert query.attributes["db.collection.name"] == "spans"
    assert query.attributes["db.operation.name"] == command
    assert query.attributes["db.query.summary"] == f"{command} spans"
    if store == "pgvector":
        assert query.attributes["db.namespace"] == "postgres"
    assert PRIVATE not in spans.everything()


async def test_a_database_that_refuses_says_its_state(postgres_url, spans):
    offer = Offer(kind="collection", name="handbook", endpoint=postgres_url, target="nowhere")
    async with Backends(region(offer)) as backends:
        with pytest.raises(errors.BackendRefusedError):
            await backends.collection("handbook").search([0, 1])
    query = spans.named("SELECT nowhere")
    assert query.attributes["db.response.status_code"] == "42P01"
    assert query.status.status_code is StatusCode.ERROR
    assert spans.named("retrieval handbook").status.status_code is StatusCode.ERROR


async def test_metrics_and_spans_reach_providers_that_are_set_after_the_import(double):
    """In a process of its own, because providers are set once in a process's life."""
    double.answer_with(
        doubles.events(doubles.chunk("Paris", "stop"), "[DONE]"),
        doubles.completion("Paris"),
        doubles.status(429),
        doubles.as_json({"sunny": True}),
    )
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.backends.measured_calls", double.url],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    told = json.loads(done.stdout)
    assert told["spans"] == ["chat smol", "chat smol", "chat smol", "execute_tool weather"]
    assert all(received(request) for request in double.requests)
    metrics = told["metrics"]
    assert metrics["gen_ai.client.operation.duration"]["unit"] == "s"
    assert metrics["gen_ai.client.operation.duration"]["bounds"][:3] == [0.01, 0.02, 0.04]
    points = metrics["gen_ai.client.operation.duration"]["points"]
    assert sum(point["count"] for point in points) == 3
    (failed,) = [point for point in points if "error.type" in point["attributes"]]
    assert failed["attributes"]["error.type"] == "BackendOverloadedError"
    assert failed["attributes"]["gen_ai.request.model"] == "smol"
    assert sum(p["count"] for p in metrics["gen_ai.client.operation.time_to_first_chunk"]["points"]) == 1
    used = {
        point["attributes"]["gen_ai.token.type"]: point["sum"]
        for point in metrics["gen_ai.client.token.usage"]["points"]
    }
    assert used == {"input": 3, "output": 2}
    (tool,) = metrics["gen_ai.execute_tool.duration"]["points"]
    assert tool["attributes"]["gen_ai.tool.name"] == "weather"
