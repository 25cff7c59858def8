"""What a step's stopwatch is told of calls: how long, connected how, how many tokens, failed or not."""

import asyncio
import threading
from contextlib import aclosing
from datetime import timedelta

import pytest
from mcp.server.mcpserver import MCPServer
from temporalio.api.common.v1 import Payload

from orchestrator import errors
from orchestrator.backends import Backends, Message, Point
from orchestrator.context import running
from orchestrator.timing import MAX_CALLS, TIMING, CallTiming, StepTiming, Stopwatch, timing_of
from orchestrator.topology.model import Offer
from tests.backends import double as doubles
from tests.backends.conftest import free_port, hosting, region
from tests.backends.observation import a_step, calls_of

ASKED = [Message.user("The capital of France is Paris. What is the capital of France?")]


@pytest.fixture
async def backends(double):
    offers = [
        Offer(kind="model", name="chat", endpoint=f"{double.url}/v1", target="smol"),
        Offer(kind="tool", name="weather", endpoint=double.url),
    ]
    async with Backends(region(*offers)) as backends:
        yield backends


async def test_a_real_model_is_timed_in_parts_that_fit_together(chat_url, embedding_url):
    offers = [
        Offer(kind="model", name="chat", endpoint=f"{chat_url}/v1"),
        Offer(kind="model", name="embed", endpoint=f"{embedding_url}/v1"),
    ]
    step = a_step()
    async with Backends(region(*offers)) as backends:
        with running(step):
            reply = await backends.model("chat").chat_streaming(ASKED, max_tokens=12, temperature=0)
            await backends.model("embed").embed(["one", "two"])
            await backends.model("embed").embed(["three"])
    streamed, first, second = calls_of(step)
    assert (streamed.kind, streamed.name, streamed.operation) == ("model", "chat", "chat")
    assert 0 < streamed.connect_ms <= streamed.first_token_ms <= streamed.took_ms
    assert streamed.first_token_ms + streamed.decode_ms == pytest.approx(streamed.took_ms, abs=0.01)
    assert streamed.input_tokens == reply.usage.prompt_tokens
    assert streamed.output_tokens == reply.usage.completion_tokens
    assert streamed.tokens_per_second > 0
    assert (first.kind, first.name, first.operation) == ("embedding", "embed", "embeddings")
    assert 0 < first.connect_ms <= first.took_ms
    assert second.connect_ms is None, "a kept connection is not opened"
    assert first.first_token_ms is None and first.tokens_per_second is None
    assert streamed.began_ms + streamed.took_ms <= first.began_ms <= second.began_ms
    assert second.began_ms + second.took_ms <= step.stopwatch.execution_ms


async def test_a_stream_that_is_read_to_its_end_leaves_its_connection_to_the_next(backends, double):
    double.answer_with(doubles.events(doubles.chunk("Paris", "stop"), "[DONE]"))
    step = a_step()
    with running(step):
        for _ in range(3):
            await backends.model("chat").chat_streaming(ASKED)
    assert [call.connect_ms is None for call in calls_of(step)] == [False, True, True]
    assert double.connections == 1


async def test_calls_outside_a_step_are_noted_nowhere(backends, double):
    double.answer_with(doubles.completion("Paris"))
    step = a_step()
    await backends.model("chat").chat(ASKED)
    assert calls_of(step) == ()


@pytest.mark.parametrize("way", ["chat", "chat_streaming", "embed", "models"])
async def test_a_failed_call_is_noted_with_its_error(backends, double, way):
    double.answer_with(doubles.status(429))
    step = a_step()
    model = backends.model("chat")
    given = {"chat": [ASKED], "chat_streaming": [ASKED], "embed": [["one"]], "models": []}[way]
    with running(step), pytest.raises(errors.BackendOverloadedError):
        await getattr(model, way)(*given)
    (call,) = calls_of(step)
    assert call.error == "BackendOverloadedError"
    assert call.decode_ms is None
    assert 0 < call.connect_ms <= call.took_ms


async def test_a_stream_that_breaks_keeps_what_it_took_until_then(backends, double):
    double.answer_with(doubles.events(doubles.chunk("Par"), cut=True))
    step = a_step()
    with running(step), pytest.raises(errors.StreamInterruptedError):
        await backends.model("chat").chat_streaming(ASKED)
    (call,) = calls_of(step)
    assert call.error == "StreamInterruptedError"
    assert call.first_token_ms <= call.took_ms
    assert call.decode_ms is None, "it never ended"


async def test_a_stream_that_is_left_early_has_not_failed(backends, double):
    double.answer_with(doubles.events(doubles.chunk("Par"), doubles.chunk("is", "stop"), "[DONE]"))
    step = a_step()
    with running(step):
        async with aclosing(backends.model("chat").stream(ASKED)) as pieces:
            async for _ in pieces:
                break
    (call,) = calls_of(step)
    assert call.error is None
    assert call.first_token_ms is not None


async def test_nobody_listens_at_the_endpoint():
    step = a_step()
    offer = Offer(kind="model", name="chat", endpoint=f"http://127.0.0.1:{free_port()}/v1")
    async with Backends(region(offer)) as backends:
        with running(step), pytest.raises(errors.BackendUnreachableError):
            await backends.model("chat").chat(ASKED)
    (call,) = calls_of(step)
    assert call.error == "BackendUnreachableError"
    assert 0 < call.connect_ms <= call.took_ms, "the attempt to connect took time too"


async def test_a_cancelled_call_is_noted(backends, double):
    arrived = asyncio.Event()

    async def silent(request: doubles.Request, writer: asyncio.StreamWriter) -> None:
        arrived.set()
        await doubles.silent(request, writer)

    double.answer_with(silent)
    step = a_step()
    with running(step):
        call = asyncio.create_task(backends.model("chat").chat(ASKED))
    await arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (noted,) = calls_of(step)
    assert noted.error == "CancelledError"


async def test_repetitions_inside_a_call_are_counted(backends, double):
    double.answer_with(doubles.completion("Paris"), doubles.hang_up, doubles.completion("Paris"))
    step = a_step()
    with running(step):
        await backends.model("chat").chat(ASKED)
        await backends.model("chat").chat(ASKED)
    first, second = calls_of(step)
    assert (first.retries, second.retries) == (0, 1)
    assert second.connect_ms is not None, "a new connection took the place of the dead one"


async def test_an_endpoint_that_refuses_the_purpose_is_asked_twice_in_one_call(backends, double):
    answer = {"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 2}}
    double.answer_with(doubles.status(400), doubles.as_json(answer))
    step = a_step()
    with running(step):
        await backends.model("chat").embed(["one"])
        await backends.model("chat").embed(["one"])
    first, second = calls_of(step)
    assert (first.retries, first.input_tokens, first.output_tokens) == (1, 2, None)
    assert second.retries == 0


async def test_a_tool_is_timed_and_its_own_error_too(backends, double):
    double.answer_with(doubles.as_json({"sunny": True}), doubles.status(422, "no such city"))
    step = a_step()
    with running(step):
        await backends.tool("weather").call({"city": "Lisbon"})
        with pytest.raises(errors.ToolError):
            await backends.tool("weather").call({"city": "Atlantis"})
    worked, failed = calls_of(step)
    assert (worked.kind, worked.name, worked.operation, worked.error) == ("tool", "weather", "call", None)
    assert failed.error == "ToolError"


@pytest.mark.parametrize("store", ["qdrant-edge", "pgvector"])
async def test_a_collection_is_timed_once_for_each_thing_asked(store, tmp_path, request):
    endpoint = request.getfixturevalue("postgres_url") if store == "pgvector" else f"file://{tmp_path}/index"
    offer = Offer(kind="collection", name="handbook", endpoint=endpoint, target=f"timed-{store}")
    step = a_step()
    async with Backends(region(offer)) as backends:
        collection = backends.collection("handbook")
        with running(step):
            await collection.upsert([Point(id="north", vector=(0, 1))], create=True)
            await collection.search([0, 1], limit=1)
            await collection.count()
            with pytest.raises(errors.BackendRefusedError):
                await collection.search([0, 1, 2], limit=1)
    calls = calls_of(step)
    assert [call.operation for call in calls] == ["upsert", "search", "count", "search"]
    assert {call.kind for call in calls} == {"collection"}
    assert [call.error for call in calls] == [None, None, None, "BackendRefusedError"]
    opened = [call.connect_ms is not None for call in calls]
    assert opened == [store == "pgvector", False, False, False], "the pool keeps its connection"


async def test_steps_that_run_at_the_same_time_have_calls_of_their_own(backends, double):
    double.answer_with(doubles.completion("Paris"))
    steps = [a_step() for _ in range(5)]

    async def body(number: int) -> None:
        with running(steps[number]):
            for _ in range(number):
                await backends.model("chat").chat(ASKED, timeout=timedelta(seconds=30))

    await asyncio.gather(*(body(number) for number in range(5)))
    assert [len(calls_of(step)) for step in steps] == [0, 1, 2, 3, 4]


def noted(took_ms: float) -> CallTiming:
    return CallTiming(kind="tool", name="weather", took_ms=took_ms)


def written(stopwatch: Stopwatch) -> StepTiming:
    payload = Payload()
    stopwatch.write(payload, "eu-central", 2.0)
    timing = timing_of(payload)
    assert timing is not None
    return timing


def test_of_many_calls_the_longest_are_kept_and_the_others_counted():
    stopwatch = Stopwatch()
    for number in range(MAX_CALLS + 10):
        stopwatch.note(noted(float(number)))
    timing = written(stopwatch)
    assert [call.took_ms for call in timing.calls] == [float(number) for number in range(10, MAX_CALLS + 10)]
    assert timing.calls_left_out == 10


def test_threads_note_at_the_same_time_without_loss():
    stopwatch = Stopwatch()
    start = threading.Barrier(8)

    def note() -> None:
        start.wait()
        for number in range(500):
            stopwatch.note(noted(float(number)))

    threads = [threading.Thread(target=note) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    timing = written(stopwatch)
    assert len(timing.calls) == MAX_CALLS
    assert timing.calls_left_out == 8 * 500 - MAX_CALLS


def test_what_travels_beside_a_result_stays_small_and_reads_back():
    stopwatch = Stopwatch()
    for _ in range(MAX_CALLS + 1):
        stopwatch.note(
            CallTiming(
                kind="model",
                name="chat",
                operation="chat",
                began_ms=1234.567,
                took_ms=1234.567,
                connect_ms=123.456,
                first_token_ms=234.567,
                input_tokens=12_345,
                output_tokens=1_234,
            )
        )
    payload = Payload()
    stopwatch.write(payload, "eu-central", 2.0)
    timing = timing_of(payload)
    assert timing is not None
    assert timing.calls == stopwatch.calls
    assert (timing.region, timing.execution_ms, timing.calls_left_out) == ("eu-central", 2.0, 1)
    assert len(payload.metadata[TIMING]) < 8 * 1024
    assert b"decode" not in payload.metadata[TIMING], "it can be derived"


def test_a_timing_of_a_newer_worker_is_read():
    payload = Payload(
        metadata={
            TIMING: b'{"region": "eu", "started_at": 1.0, "execution_ms": 2.0, "shade": "blue",'
            b' "calls": [{"kind": "oracle", "name": "x", "took_ms": 1.0, "shade": "blue"}]}'
        }
    )
    timing = timing_of(payload)
    assert timing is not None
    assert timing.calls[0].kind == "oracle"


async def test_an_mcp_tool_counts_its_session_as_connecting():
    mcp = MCPServer("rates")

    @mcp.tool()
    def rate(currency: str) -> float:
        return {"EUR": 1.0}[currency]

    step = a_step()
    with hosting(mcp.streamable_http_app()) as url:
        offer = Offer(kind="tool", name="rate", protocol="mcp", endpoint=f"{url}/mcp")
        async with Backends(region(offer)) as backends:
            with running(step):
                await backends.tool("rate").describe()
                await backends.tool("rate").call({"currency": "EUR"})
                with pytest.raises(errors.ToolError):
                    await backends.tool("rate").call({"currency": "USD"})
    calls = calls_of(step)
    assert [call.operation for call in calls] == ["describe", "call", "call"]
    assert 0 < calls[0].connect_ms <= calls[0].took_ms
    assert [call.error for call in calls] == [None, None, "ToolError"]
