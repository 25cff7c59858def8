"""What a model's endpoint can do wrong, and the typed error that each becomes."""

import asyncio
import json
import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from pydantic import BaseModel

from orchestrator import errors
from orchestrator.backends import Backends, Message, ToolCall, ToolDescription
from orchestrator.context import StepContext, running
from orchestrator.errors import Recovery
from orchestrator.topology.model import Offer
from tests.backends import double as doubles
from tests.backends.conftest import free_port, region

ASKED = [Message.user("a private question")]


class Verdict(BaseModel):
    holds: bool


def offer(url: str, **more: object) -> Offer:
    return Offer.model_validate({"kind": "model", "name": "chat", "endpoint": f"{url}/v1", **more})


@pytest.fixture
async def model(double):
    async with Backends(region(offer(double.url))) as backends:
        yield backends.model("chat")


LIMITED = doubles.status(429, '{"error": {"message": "a private question", "type": "rate"}}', retry_after="7")
LATER = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)

FAILURES = [
    (doubles.status(500, "oops"), errors.BackendFaultError, Recovery.ELSEWHERE, 500),
    (doubles.status(502), errors.BackendFaultError, Recovery.ELSEWHERE, 502),
    (LIMITED, errors.BackendOverloadedError, Recovery.RETRY_HERE, 429),
    (doubles.status(503), errors.BackendOverloadedError, Recovery.RETRY_HERE, 503),
    (doubles.status(504), errors.BackendTimeoutError, Recovery.ELSEWHERE, 504),
    (doubles.status(400), errors.BackendRefusedError, Recovery.FINAL, 400),
    (doubles.status(401), errors.BackendRefusedError, Recovery.FINAL, 401),
    (doubles.status(404), errors.BackendRefusedError, Recovery.FINAL, 404),
    (doubles.status(302, location="http://example.com/"), errors.BackendRefusedError, Recovery.FINAL, 302),
    (doubles.status(200), errors.MalformedResponseError, Recovery.RETRY_HERE, None),
    (doubles.status(200, "<html>"), errors.MalformedResponseError, Recovery.RETRY_HERE, None),
    (doubles.status(200, b"\xff\xfe"), errors.MalformedResponseError, Recovery.RETRY_HERE, None),
    (doubles.as_json({"choices": []}), errors.MalformedResponseError, Recovery.RETRY_HERE, None),
    (doubles.as_json(["a private question"]), errors.MalformedResponseError, Recovery.RETRY_HERE, None),
    (
        doubles.status(200, "no gzip", content_encoding="gzip"),
        errors.MalformedResponseError,
        Recovery.RETRY_HERE,
        None,
    ),
    (doubles.hang_up, errors.BackendUnreachableError, Recovery.ELSEWHERE, None),
    (doubles.short(b"{"), errors.BackendUnreachableError, Recovery.ELSEWHERE, None),
]


@pytest.mark.parametrize(("answer", "kind", "recovery", "status"), FAILURES)
@pytest.mark.parametrize("way", ["chat", "chat_streaming", "embed", "models"])
async def test_each_failure_has_its_type_and_says_where(model, double, answer, kind, recovery, status, way):
    double.answer_with(answer)
    with pytest.raises(errors.BackendError) as failed:
        if way == "embed":
            await model.embed(["a private question"])
        elif way == "models":
            await model.models()
        else:
            await getattr(model, way)(ASKED)
    if way == "chat_streaming" and status is None and kind is not errors.MalformedResponseError:
        # an answer that is no stream at all is malformed before it can break
        kind, recovery = type(failed.value), failed.value.recovery
        assert kind in {errors.BackendUnreachableError, errors.MalformedResponseError}
    assert type(failed.value) is kind
    assert failed.value.recovery is recovery
    assert failed.value.status == status
    assert failed.value.endpoint == f"{double.url}/v1"
    assert failed.value.region == "eu-central"
    assert "private" not in str(failed.value)
    assert failed.value.__cause__ is None
    double.answer_with(doubles.completion("well"))
    assert (await model.chat(ASKED)).text == "well"


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        (LATER, 3000, 3600),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("soon", None, None),
    ],
)
async def test_retry_after_in_seconds_or_as_a_date(model, double, value, low, high):
    double.answer_with(doubles.status(429, retry_after=value))
    with pytest.raises(errors.BackendOverloadedError) as limited:
        await model.chat(ASKED)
    wait = limited.value.retry_after
    assert wait is None if low is None else timedelta(seconds=low) <= wait <= timedelta(seconds=high)


async def test_nothing_listens():
    async with Backends(region(offer(f"http://127.0.0.1:{free_port()}"))) as backends:
        with pytest.raises(errors.BackendUnreachableError, match="no connection") as down:
            await backends.model("chat").chat(ASKED)
        assert down.value.recovery is Recovery.ELSEWHERE
        assert not await backends.model("chat").health()


async def test_a_name_that_no_one_knows():
    async with Backends(region(offer("http://nowhere.invalid"))) as backends:
        with pytest.raises(errors.BackendUnreachableError):
            await backends.model("chat").chat(ASKED)


@pytest.mark.parametrize("way", ["chat", "chat_streaming", "models"])
async def test_silence_ends_at_the_timeout(model, double, way):
    double.answer_with(doubles.silent)
    asked = () if way == "models" else (ASKED,)
    with pytest.raises(errors.BackendTimeoutError, match=r"within 0\.1 s"):
        await getattr(model, way)(*asked, timeout=timedelta(seconds=0.1))


async def test_a_request_ends_before_the_step_does(model, double):
    step = StepContext(
        workflow_id="w",
        run_id="run",
        step="answer",
        activity_id="1",
        sequence=1,
        attempt=1,
        region="eu-central",
        dispatch="queue",
        ends_at=time.monotonic() + 0.5,
    )
    double.answer_with(doubles.silent)
    with running(step), pytest.raises(errors.BackendTimeoutError, match=r"within 0\.[34]"):
        await model.chat(ASKED, timeout=timedelta(minutes=1))


async def test_a_stream_that_stalls_ends_at_the_timeout(model, double):
    double.answer_with(doubles.events(doubles.chunk("Pa"), then=asyncio.Event().wait()))
    pieces = []
    with pytest.raises(errors.BackendTimeoutError):
        async for piece in model.stream(ASKED, timeout=timedelta(seconds=0.3)):
            pieces.append(piece.text)
    assert pieces == ["Pa"]


@pytest.mark.parametrize("cut", [True, False])
async def test_a_stream_cut_in_the_middle(model, double, cut):
    double.answer_with(doubles.events(doubles.chunk("Pa"), doubles.chunk("ris"), cut=cut))
    pieces = []
    with pytest.raises(errors.StreamInterruptedError) as interrupted:
        async for piece in model.stream(ASKED):
            pieces.append(piece.text)
    assert pieces == ["Pa", "ris"]
    assert interrupted.value.recovery is Recovery.ELSEWHERE


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ("{", errors.MalformedResponseError),
        ('{"choices": 3}', errors.MalformedResponseError),
        ('{"error": {"message": "private", "type": "server_error"}}', errors.BackendFaultError),
        ('{"error": {"message": "private", "code": 400}}', errors.BackendRefusedError),
        ('{"error": {"message": "private", "code": "429"}}', errors.BackendOverloadedError),
    ],
)
async def test_an_event_that_is_none_or_tells_of_a_failure(model, double, event, kind):
    double.answer_with(doubles.events(doubles.chunk("Pa"), event))
    with pytest.raises(kind) as failed:
        await model.chat_streaming(ASKED)
    assert type(failed.value) is kind
    assert "private" not in str(failed.value)


async def test_unicode_line_separators_do_not_cut_an_event(model, double):
    double.answer_with(doubles.events(doubles.chunk("a\u2028b\x85c"), doubles.chunk(None, "stop"), "[DONE]"))
    assert (await model.chat_streaming(ASKED)).text == "a\u2028b\x85c"


async def test_a_loop_left_early_frees_the_connection(model, double):
    double.answer_with(
        doubles.events(doubles.chunk("Pa"), then=asyncio.Event().wait()), doubles.completion("well")
    )
    async with aclosing(model.stream(ASKED)) as pieces:
        async for piece in pieces:
            assert piece.text == "Pa"
            break
    assert (await model.chat(ASKED)).text == "well"


@pytest.mark.parametrize("text", ['{"holds": "perhaps"}', "{}", "yes", "", '{"holds": tr', None])
@pytest.mark.parametrize("schema", [Verdict, Verdict.model_json_schema()])
async def test_an_answer_that_breaks_the_schema(model, double, text, schema):
    double.answer_with(doubles.completion(text))
    with pytest.raises(errors.SchemaViolationError) as broken:
        await model.chat(ASKED, schema=schema, schema_name="verdict")
    assert "the schema verdict" in str(broken.value)
    assert "perhaps" not in str(broken.value)
    assert broken.value.recovery is Recovery.RETRY_HERE


async def test_an_answer_cut_at_max_tokens_says_so(model, double):
    double.answer_with(doubles.completion('{"holds": tr', "length"))
    with pytest.raises(errors.SchemaViolationError, match="max_tokens"):
        await model.chat(ASKED, schema=Verdict, max_tokens=4)


async def test_a_schema_that_is_none_is_said_before_anything_is_sent(model, double):
    with pytest.raises(errors.ConfigurationError, match="schema"):
        await model.chat(ASKED, schema={"type": "strange"})
    assert double.requests == []


WEATHER = ToolDescription(
    name="weather", parameters={"type": "object", "properties": {"city": {"type": "string"}}}
)


def wanted(arguments: object, **more: object) -> dict[str, object]:
    return {
        "id": "call-7",
        "type": "function",
        "function": {"name": "weather", "arguments": arguments},
        **more,
    }


@pytest.mark.parametrize("arguments", ['{"city": "Lisbon"}', {"city": "Lisbon"}])
async def test_tool_calls(model, double, arguments):
    double.answer_with(doubles.completion(None, "tool_calls", tool_calls=[wanted(arguments)]))
    reply = await model.chat(ASKED, tools=[WEATHER], tool_choice="weather")
    assert reply.tool_calls == (ToolCall(id="call-7", name="weather", arguments={"city": "Lisbon"}),)
    sent = double.requests[0].json
    assert sent["tools"][0]["function"]["name"] == "weather"
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "weather"}}

    double.answer_with(doubles.completion("Sunny."))
    await model.chat([*ASKED, reply.message, Message.tool("sun", tool_call_id="call-7")])
    told, answered = double.requests[1].json["messages"][1:]
    assert json.loads(told["tool_calls"][0]["function"]["arguments"]) == {"city": "Lisbon"}
    assert answered == {"role": "tool", "content": "sun", "tool_call_id": "call-7"}


async def test_streamed_tool_calls_are_put_together(model, double):
    second = {"index": 1, "id": "b", "function": {"name": "weather", "arguments": ""}}
    double.answer_with(
        doubles.events(
            doubles.chunk(tool_calls=[{"index": 0, "id": "a", "function": {"name": "weather"}}]),
            doubles.chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"city": '}}]),
            doubles.chunk(tool_calls=[second, {"index": 0, "function": {"arguments": '"Lisbon"}'}}]),
            doubles.chunk(None, "tool_calls"),
            "[DONE]",
        )
    )
    reply = await model.chat_streaming(ASKED, tools=[WEATHER])
    assert reply.tool_calls == (
        ToolCall(id="a", name="weather", arguments={"city": "Lisbon"}),
        ToolCall(id="b", name="weather", arguments={}),
    )


@pytest.mark.parametrize("arguments", ["{", '"text"', "[1]"])
async def test_arguments_that_are_no_json_object(model, double, arguments):
    double.answer_with(doubles.completion(None, "tool_calls", tool_calls=[wanted(arguments)]))
    with pytest.raises(errors.SchemaViolationError, match="weather"):
        await model.chat(ASKED, tools=[WEATHER])


@pytest.mark.parametrize(
    "data",
    [
        [{"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": []}],
        [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [float("nan")]}],
    ],
)
async def test_embeddings_that_are_not_one_for_each_text(model, double, data):
    double.answer_with(doubles.as_json({"data": data}))
    with pytest.raises(errors.MalformedResponseError):
        await model.embed(["one", "two"])


async def test_embeddings_come_back_in_the_order_of_their_texts(model, double):
    double.answer_with(
        doubles.as_json({"data": [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]})
    )
    assert await model.embed(["one", "two"]) == [[1.0], [2.0]]


async def test_an_endpoint_that_refuses_the_purpose_is_not_sent_it_again(model, double):
    vectors = doubles.as_json({"data": [{"index": 0, "embedding": [1.0]}]})
    double.answer_with(doubles.status(400, '{"error": {"code": "unknown_parameter"}}'), vectors)
    assert await model.embed(["one"], purpose="query") == [[1.0]]
    assert await model.embed(["one"], purpose="query") == [[1.0]]
    assert ["input_type" in request.json for request in double.requests] == [True, False, False]


async def test_an_answer_too_large_to_hold_is_not_read(model, double, monkeypatch):
    monkeypatch.setattr("orchestrator.backends.http.MAX_BODY_BYTES", 2**20)
    double.answer_with(doubles.status(200, b" " * (2**20 + 1)))
    with pytest.raises(errors.MalformedResponseError, match="1 MiB") as large:
        await model.chat(ASKED)
    assert large.value.recovery is Recovery.FINAL


async def test_connections_are_kept_and_a_dead_one_is_replaced_unseen(model, double):
    async def answer_and_die(request, writer):
        await doubles.completion("last words")(request, writer)
        await writer.drain()
        writer.transport.pause_reading()

    double.answer_with(
        doubles.completion("well"), doubles.completion("well"), doubles.hang_up, doubles.completion("again")
    )
    assert (await model.chat(ASKED)).text == "well"
    assert (await model.chat(ASKED)).text == "well"
    assert double.connections == 1
    # It dies under the third request, before any answer: that one goes out again on a new connection.
    assert (await model.chat(ASKED)).text == "again"
    assert double.connections == 2


async def test_health_finds_the_path_that_the_endpoint_has(model, double):
    async def nim(request, writer):
        found = request.path in {"/v1/health/ready", "/v1/models"}
        await doubles.status(200 if found else 404)(request, writer)

    double.answer_with(nim)
    assert await model.health()
    assert [request.path for request in double.requests] == ["/health", "/v1/health/ready"]

    double.answer_with(doubles.status(503))
    assert not await model.health()


async def test_the_secret_goes_along_and_is_read_for_each_request(double, monkeypatch):
    monkeypatch.setenv("CHAT_KEY", "key-one\n")
    double.answer_with(doubles.completion("well"))
    async with Backends(region(offer(double.url, secret_env="CHAT_KEY"))) as backends:
        await backends.model("chat").chat(ASKED)
        monkeypatch.setenv("CHAT_KEY", "key-two")
        await backends.model("chat").chat(ASKED)
    assert [request.headers["authorization"] for request in double.requests] == [
        "Bearer key-one",
        "Bearer key-two",
    ]


@pytest.mark.parametrize("value", ["", "two words", "clé", "line\nline"])
async def test_a_value_that_is_no_secret_is_not_sent_and_not_shown(double, monkeypatch, value):
    monkeypatch.setenv("CHAT_KEY", value)
    async with Backends(region(offer(double.url, secret_env="CHAT_KEY"))) as backends:
        with pytest.raises(errors.ConfigurationError, match="CHAT_KEY") as wrong:
            await backends.model("chat").chat(ASKED)
    assert not value or value not in str(wrong.value)
    assert double.requests == []


async def test_a_secret_that_is_not_there_names_where_it_should_be(double, monkeypatch, tmp_path):
    monkeypatch.delenv("CHAT_KEY", raising=False)
    async with Backends(region(offer(double.url, secret_env="CHAT_KEY"))) as backends:
        with pytest.raises(errors.ConfigurationError, match=r"CHAT_KEY, which is not set"):
            await backends.model("chat").chat(ASKED)
    async with Backends(region(offer(double.url, secret_file=tmp_path / "gone"))) as backends:
        with pytest.raises(errors.ConfigurationError, match="gone"):
            await backends.model("chat").chat(ASKED)


async def test_an_endpoints_query_is_kept_and_not_shown(double):
    double.answer_with(doubles.completion("well"), doubles.status(500))
    chat = Offer(kind="model", name="chat", endpoint=f"{double.url}/v1?api-version=2")
    async with Backends(region(chat)) as backends:
        await backends.model("chat").chat(ASKED)
        assert double.requests[0].path == "/v1/chat/completions?api-version=2"
        with pytest.raises(errors.BackendFaultError) as failed:
            await backends.model("chat").chat(ASKED)
    assert "api-version" not in str(failed.value)
