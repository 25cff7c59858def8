"""The wire format against OpenAI's own description of it, and against what NIM and vLLM serve."""

import csv
import json
import re

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.backends import Backends, Message, ToolCall, ToolDescription
from orchestrator.backends.openai_format import (
    ChatChunk,
    ChatRequest,
    ChatResponse,
    EmbeddingResponse,
    ModelList,
)
from orchestrator.topology.model import Offer
from tests.backends import double as doubles
from tests.backends.conftest import region
from tests.shared_data import shared_data

CHAT = "CreateChatCompletionRequest"


@pytest.fixture(scope="module")
def validator():
    document = json.loads(shared_data("api", "openai_chat_embeddings_models.openapi.json").read_text())
    schemas = _without_nullable(document)

    def validate(name: str, value: object) -> None:
        root = {"$ref": f"#/components/schemas/{name}", "components": schemas["components"]}
        jsonschema.Draft202012Validator(root).validate(value)

    return validate


def _without_nullable(value):
    """OpenAPI 3.0's ``nullable``, which the document still uses, in the words of JSON schema."""
    if isinstance(value, list):
        return [_without_nullable(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _without_nullable(item) for key, item in value.items() if key != "nullable"}
    return {"anyOf": [plain, {"type": "null"}]} if value.get("nullable") is True else plain


def examples(path: str) -> list[str]:
    lines = shared_data("api", "openai_examples.jsonl").read_text().splitlines()
    return [
        example["response"]
        for example in (json.loads(line) for line in lines if line.strip())
        if example["path"] == path and example.get("response")
    ]


names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1000, 1000) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
calls = st.builds(
    ToolCall, id=names, name=names, arguments=st.dictionaries(st.text(max_size=5), json_values, max_size=3)
)
messages = st.one_of(
    st.builds(Message.system, st.text()),
    st.builds(Message.user, st.text(), name=st.none() | names),
    st.builds(Message.assistant, st.text(), tool_calls=st.lists(calls, max_size=2)),
    st.builds(Message.tool, st.text(), tool_call_id=names),
)
requests = st.builds(
    ChatRequest,
    max_tokens=st.none() | st.integers(1, 4096),
    temperature=st.none() | st.floats(0, 2),
    seed=st.none() | st.integers(0, 2**31),
    stop=st.none() | st.text(min_size=1, max_size=5) | st.lists(st.text(min_size=1), min_size=1, max_size=4),
    schema=st.none() | st.just({"type": "object", "properties": {"holds": {"type": "boolean"}}}),
    schema_name=st.none() | names,
    tools=st.lists(st.builds(ToolDescription, name=names, description=st.text(max_size=10)), max_size=2),
    tool_choice=st.none() | st.sampled_from(["auto", "none", "required", "weather"]),
)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(asked=requests, said=st.lists(messages, min_size=1, max_size=4), stream=st.booleans())
def test_every_request_is_one_that_the_description_allows(validator, asked, said, stream):
    validator(CHAT, json.loads(json.dumps(asked.body("some-model", said, stream=stream))))


def test_the_check_notices_what_is_not_allowed(validator):
    for wrong in [
        {},
        {"model": "m", "messages": []},
        {"model": "m", "messages": [{"role": "tool", "content": ""}]},
    ]:
        with pytest.raises(jsonschema.ValidationError):
            validator(CHAT, wrong)


async def test_embeddings_are_asked_for_as_the_description_allows(validator, double):
    """A strict endpoint knows no ``input_type``: it refuses it, and is not sent it again."""

    async def strict(request, writer):
        try:
            validator("CreateEmbeddingRequest", request.json)
        except jsonschema.ValidationError:
            await doubles.status(400, '{"error": {"code": "unknown_parameter"}}')(request, writer)
        else:
            vectors = [{"index": count, "embedding": [1.0]} for count, _ in enumerate(request.json["input"])]
            await doubles.as_json({"data": vectors})(request, writer)

    double.answer_with(strict)
    embed = Offer(kind="model", name="embed", endpoint=f"{double.url}/v1", target="text-embedding-3-small")
    async with Backends(region(embed)) as backends:
        assert await backends.model("embed").embed(["one", "two"]) == [[1.0], [1.0]]
        await backends.model("embed").embed(["three"])
    assert [request.json.get("input_type") for request in double.requests] == ["passage", None, None]


def test_the_described_chat_answers_are_understood():
    found = [json.loads(text) for text in examples("/chat/completions") if '"chat.completion"' in text]
    assert len(found) >= 4
    finished = set()
    for answer in found:
        completion = ChatResponse.model_validate(answer).completion()
        assert completion.text or completion.tool_calls
        assert completion.usage.total_tokens == answer["usage"]["total_tokens"]
        finished.add(completion.finish_reason)
    assert {"stop", "tool_calls"} <= finished
    called = [
        call for answer in found for call in ChatResponse.model_validate(answer).completion().tool_calls
    ]
    assert called[0].name == "get_current_weather"
    assert "Boston" in called[0].arguments["location"]


async def test_the_described_stream_is_understood(double):
    (stream,) = [text for text in examples("/chat/completions") if "chat.completion.chunk" in text]
    chunks = [line for line in stream.splitlines() if line.startswith("{")]
    assert len(chunks) >= 3
    for chunk in chunks:
        ChatChunk.model_validate_json(chunk)
    double.answer_with(doubles.events(*chunks, "[DONE]"))
    async with Backends(region(Offer(kind="model", name="chat", endpoint=f"{double.url}/v1"))) as backends:
        reply = await backends.model("chat").chat_streaming([Message.user("Hello!")])
    assert reply.text == "Hello"
    assert reply.finish_reason == "stop"


def test_the_described_embeddings_and_models_are_understood():
    (embeddings,) = examples("/embeddings")
    # The document leaves most numbers out and says so between them; and it ends lists with a comma.
    numbers = re.sub(r"\.{4}.*\n", "", embeddings)
    embeddings = EmbeddingResponse.model_validate_json(re.sub(r",(\s*[\]}])", r"\1", numbers))
    assert embeddings.data[0].embedding[0] == 0.0023064255
    (models,) = examples("/models")
    listed = ModelList.model_validate_json(re.sub(r",(\s*[\]}])", r"\1", models))
    assert [model.id for model in listed.data] == ["model-id-0", "model-id-1", "model-id-2"]


async def test_only_paths_are_used_that_nim_and_vllm_serve(double):
    with shared_data("api", "nim_vllm_endpoints.csv").open() as table:
        served = {(row["method"], row["path"]): row["kind"] for row in csv.DictReader(table)}
    vllm = {key for key, kind in served.items() if kind in {"vllm", "inference"}}
    nim = {key for key, kind in served.items() if kind != "vllm"}
    for paths in (vllm, nim):

        async def endpoint(request, writer, paths=paths):
            known = (request.method, request.path) in paths
            answers = {
                "/v1/chat/completions": doubles.completion("well"),
                "/v1/embeddings": doubles.as_json({"data": [{"index": 0, "embedding": [1.0]}]}),
                "/v1/models": doubles.as_json({"object": "list", "data": [{"id": "m", "max_model_len": 8}]}),
            }
            await (answers.get(request.path, doubles.status(200)) if known else doubles.status(404))(
                request, writer
            )

        double.answer_with(endpoint)
        async with Backends(
            region(Offer(kind="model", name="chat", endpoint=f"{double.url}/v1"))
        ) as backends:
            model = backends.model("chat")
            assert (await model.chat([Message.user("Hello!")])).text == "well"
            assert await model.embed(["one"]) == [[1.0]]
            assert await model.models() == ["m"]
            assert await model.health()
