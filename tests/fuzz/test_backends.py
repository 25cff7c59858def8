"""Answers of models and tools over HTTP: a value, or an error of ours that names the endpoint."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from orchestrator.backends import Backends, Message, ToolDescription
from orchestrator.errors import BackendError
from orchestrator.topology import Offer
from tests.backends import double as doubles
from tests.backends.conftest import region
from tests.backends.double import Answer, Double, Request
from tests.fuzz.profile import changed, fuzzed, json_values, mutated

WITHIN = timedelta(seconds=10)

COMPLETION: dict[str, Any] = {
    "id": "c",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": '{"colour": "red"}',
                "tool_calls": [
                    {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}
                ],
            },
        }
    ],
    "usage": {"prompt_tokens": 3, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 1}},
}
CHUNK: dict[str, Any] = {
    "id": "c",
    "choices": [
        {
            "index": 0,
            "delta": {
                "content": "red",
                "tool_calls": [{"index": 0, "id": "1", "function": {"name": "look", "arguments": "{}"}}],
            },
            "finish_reason": None,
        }
    ],
    "usage": None,
}
EMBEDDINGS = {"data": [{"index": 0, "embedding": [0.1, 0.2]}], "model": "e", "usage": {"prompt_tokens": 1}}
LOOK = ToolDescription(name="look", description="", parameters={"type": "object", "properties": {}})


class Colour(BaseModel):
    colour: str


@pytest.fixture(scope="module")
async def double() -> AsyncIterator[Double]:
    async with doubles.running() as running:
        yield running


@pytest.fixture(scope="module")
async def fuzzed_backends(double: Double) -> AsyncIterator[Backends]:
    offers = (
        Offer(kind="model", name="chat", endpoint=f"{double.url}/v1"),
        Offer(kind="tool", name="tool", endpoint=f"{double.url}/tool"),
        Offer(kind="tool", name="remote", endpoint=f"{double.url}/mcp", protocol="mcp"),
    )
    async with Backends(region(*offers)) as backends:
        yield backends


def encoded(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def bodies(original: object) -> st.SearchStrategy[bytes]:
    return mutated(encoded(original)) | changed(original).map(encoded) | json_values.map(encoded)


codes = st.sampled_from([200, 200, 200, 200, 201, 204, 302, 400, 422, 429, 500, 503])
content_types = st.sampled_from(["application/json", "text/plain", "text/event-stream", "application/x", ""])


@fuzzed(150)
@given(body=bodies(COMPLETION), code=codes, content_type=content_types)
async def test_completions(
    fuzzed_backends: Backends, double: Double, body: bytes, code: int, content_type: str
) -> None:
    double.answer_with(doubles.status(code, body, content_type))
    model = fuzzed_backends.model("chat")
    for options in ({}, {"schema": Colour}, {"tools": [LOOK]}):
        try:
            async with asyncio.timeout(30):
                await model.chat([Message.user("?")], timeout=WITHIN, **options)
        except BackendError as error:
            assert double.url in str(error)


@fuzzed(100)
@given(body=bodies(EMBEDDINGS), code=codes)
async def test_embeddings(fuzzed_backends: Backends, double: Double, body: bytes, code: int) -> None:
    double.answer_with(doubles.status(code, body))
    try:
        async with asyncio.timeout(30):
            await fuzzed_backends.model("chat").embed(["?"], timeout=WITHIN)
    except BackendError as error:
        assert double.url in str(error)


def streamed(frames: list[bytes], ended: bool) -> Answer:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for frame in filter(None, frames):
            writer.write(f"{len(frame):x}\r\n".encode() + frame + b"\r\n")
        if ended:
            writer.write(b"0\r\n\r\n")
        else:
            writer.close()

    return answer


GOOD_FRAMES = b"".join(b"data: " + encoded(CHUNK) + b"\n\n" for _ in range(2)) + b"data: [DONE]\n\n"
frames = st.lists(
    st.sampled_from([b"data: " + encoded(CHUNK) + b"\n\n", b"data: [DONE]\n\n", b": quiet\n\n"])
    | changed(CHUNK).map(lambda value: b"data: " + encoded(value) + b"\n\n")
    | mutated(GOOD_FRAMES)
    | st.binary(max_size=30),
    max_size=5,
)


@fuzzed(150)
@given(frames=frames, ended=st.booleans())
async def test_streams(fuzzed_backends: Backends, double: Double, frames: list[bytes], ended: bool) -> None:
    double.answer_with(streamed(frames, ended))
    try:
        async with asyncio.timeout(30):
            pieces = [
                piece
                async for piece in fuzzed_backends.model("chat").stream([Message.user("?")], timeout=WITHIN)
            ]
        assert pieces[-1].last
    except BackendError as error:
        assert double.url in str(error)


@fuzzed(100)
@given(body=bodies({"text": "found", "more": [1, None]}), code=codes, content_type=content_types)
async def test_http_tools(
    fuzzed_backends: Backends, double: Double, body: bytes, code: int, content_type: str
) -> None:
    double.answer_with(doubles.status(code, body, content_type))
    tool = fuzzed_backends.tool("tool")
    for asked in (lambda: tool.call({"at": 1}, timeout=WITHIN), lambda: tool.describe(timeout=WITHIN)):
        try:
            async with asyncio.timeout(30):
                await asked()
        except BackendError as error:
            assert double.url in str(error)


INITIALIZED: dict[str, Any] = {
    "protocolVersion": "2025-06-18",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "tools", "version": "1"},
}
LISTED: dict[str, Any] = {"tools": [{"name": "remote", "description": "", "inputSchema": {"type": "object"}}]}
CALLED: dict[str, Any] = {"content": [{"type": "text", "text": "found"}], "structuredContent": {"a": 1}}


def speaking(results: dict[str, object], whole: bytes | None) -> Answer:
    """An MCP server that answers each method with what it is given, or every call with these bytes."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        asked = json.loads(request.body) if request.body else {}
        if "id" not in asked:
            await doubles.status(202)(request, writer)
            return
        if whole is not None and asked["method"] == "tools/call":
            await doubles.status(200, whole)(request, writer)
            return
        result = results.get(asked["method"], {})
        await doubles.as_json({"jsonrpc": "2.0", "id": asked["id"], "result": result})(request, writer)

    return answer


@fuzzed(40)
@given(
    method=st.sampled_from(["initialize", "tools/list", "tools/call"]),
    data=st.data(),
    whole=st.none() | st.none() | mutated(encoded({"jsonrpc": "2.0", "id": 1, "result": CALLED})),
)
async def test_mcp_tools(
    fuzzed_backends: Backends, double: Double, method: str, data: st.DataObject, whole: bytes | None
) -> None:
    results: dict[str, object] = {"initialize": INITIALIZED, "tools/list": LISTED, "tools/call": CALLED}
    results[method] = data.draw(changed(results[method]))
    double.answer_with(speaking(results, whole))
    offer = Offer(kind="tool", name="remote", endpoint=f"{double.url}/mcp", protocol="mcp")
    async with Backends(region(offer)) as backends:
        tool = backends.tool("remote")
        for asked in (
            lambda: tool.describe(timeout=timedelta(seconds=2)),
            lambda: tool.call({"at": 1}, timeout=timedelta(seconds=2)),
        ):
            try:
                async with asyncio.timeout(30):
                    await asked()
            except BackendError as error:
                assert double.url in str(error)
