"""What workers, clients and observers tell each other: pieces of text, states, payloads."""

import asyncio
import json
import warnings
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from temporalio.api.common.v1 import Payload

from orchestrator.client.stream import follow
from orchestrator.dispatch.payloads.converter import data_converter
from orchestrator.errors import UnreadablePayloadError, UnwritableValueError
from orchestrator.fleet.probes import ProbeError, control_endpoint
from orchestrator.fleet.status import QueueStatus, StepTime, WorkerStatus
from orchestrator.streams import NumberedPiece, StreamPiece, UnreadablePieceWarning
from orchestrator.topology import Region
from tests.backends import double as doubles
from tests.backends.double import Answer, Double, Request
from tests.fuzz.profile import changed, fuzzed, json_values, mutated

PIECE = NumberedPiece(
    number=1, piece=StreamPiece(text="é\n", step="s", sequence=1, attempt=1, place="eu", workflow_id="w")
).model_dump_json()
STATUS = WorkerStatus(
    region="eu-central",
    state="up",
    queues={"model": QueueStatus(slots=8, busy=1)},
    rtt_ms={"eu-central": 1.0},
    run_times=(StepTime(step="s", p50_ms=1.0, p95_ms=2.0, samples=3),),
).model_dump(mode="json")


@pytest.fixture(scope="module")
async def double() -> AsyncIterator[Double]:
    async with doubles.running() as running:
        yield running


@pytest.fixture(scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def encoded(value: object) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


def frames_of(frames: list[bytes], whole: bool) -> Answer:
    async def answer(_: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/x-ndjson\r\nconnection: close\r\n\r\n")
        writer.write(b"\n".join(frames) + (b"\n" if whole else b""))
        await writer.drain()
        writer.close()

    return answer


lines = st.lists(
    st.just(PIECE.encode())
    | mutated(PIECE.encode())
    | changed(json.loads(PIECE)).map(encoded)
    | st.binary(max_size=20),
    max_size=6,
)


@fuzzed(60)
@given(frames=lines, whole=st.booleans())
async def test_stream_frames(
    http: httpx.AsyncClient, double: Double, frames: list[bytes], whole: bool
) -> None:
    """What is no piece is left out with a warning, and the stream ends with the run."""
    double.answer_with(frames_of(frames, whole))
    finished = asyncio.Event()
    finished.set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnreadablePieceWarning)
        async with asyncio.timeout(20):
            pieces = [piece async for piece in follow(http, [double.url], "w", finished.wait())]
    assert all(isinstance(piece, StreamPiece) for piece in pieces)


def test_a_piece_of_a_newer_version_is_read() -> None:
    value = json.loads(PIECE)
    value["piece"]["colour"] = value["of_tomorrow"] = {"any": 1}
    assert NumberedPiece.model_validate(value).piece.text == "é\n"


@fuzzed(150)
@given(
    body=mutated(encoded(STATUS)) | changed(STATUS).map(encoded) | json_values.map(encoded),
    code=st.sampled_from([200, 200, 200, 204, 301, 404, 500]),
)
async def test_what_a_control_endpoint_says(
    http: httpx.AsyncClient, double: Double, body: bytes, code: int
) -> None:
    double.answer_with(doubles.status(code, body))
    region = Region(name="eu-central", coordinates=(50.1, 8.7), country="DE", cell="eu", control=double.url)
    try:
        said, _ = await control_endpoint(http, region, timedelta(seconds=10))
    except ProbeError as error:
        assert len(str(error)) < 500
    else:
        assert said.region == "eu-central"


def test_a_status_of_a_newer_version_is_read() -> None:
    said = WorkerStatus.model_validate({**STATUS, "state": "warming", "of_tomorrow": [1]})
    assert said.state == "draining", "whatever it does, it does not take work"


class Order(BaseModel):
    number: int
    note: str = ""
    more: dict[str, list[float]] = {}


CONVERTER = data_converter(None, None).payload_converter
SECRET = "a-very-secret-word"

metadata = st.dictionaries(
    st.sampled_from(["encoding", "messageType", "x"]),
    st.sampled_from(
        [
            *(b"json/plain", b"binary/plain", b"binary/null", b"json/protobuf", b"binary/protobuf"),
            *(b"temporal.api.common.v1.Payload", b"google.protobuf.Any", b"", b"\xff\xfe"),
        ]
    )
    | st.binary(max_size=6),
    max_size=3,
)


@fuzzed(300)
@given(
    metadata=metadata,
    data=mutated(encoded({"number": 1, "note": SECRET, "more": {SECRET: [1.5]}}))
    | json_values.map(encoded)
    | st.binary(max_size=40),
    hint=st.sampled_from([None, Order, int, str, bytes, list[Order], dict[str, int], Payload, Any]),
)
def test_a_payload_is_read_or_told(metadata: dict[str, bytes], data: bytes, hint: Any) -> None:
    payload = Payload(metadata=metadata, data=data)
    try:
        CONVERTER.from_payloads([payload], None if hint is None else [hint])
    except UnreadablePayloadError as error:
        assert SECRET not in str(error)
        assert error.__cause__ is None


@fuzzed(200)
@given(
    value=st.recursive(
        json_values | st.sampled_from([object(), {1, 2}, lambda: 1, b"\xff", complex(1, 2), "\ud800"]),
        lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
        max_leaves=6,
    )
)
def test_a_value_is_written_or_told(value: object) -> None:
    try:
        CONVERTER.to_payloads([value])
    except UnwritableValueError as error:
        assert error.__cause__ is None
