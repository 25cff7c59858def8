"""Models and tools that fail on demand, one of each a region: ``python -m bench.chaos.doubles --port 8080``.

They speak the protocols of real ones over real HTTP, answer what can be checked, and take as long as
such services do. ``PUT /control/REGION`` says how a region's services behave from then on.
"""

import argparse
import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from bench.chaos.places import COUNTRY, STANDBY

MODEL_TAKES = timedelta(milliseconds=300)
TOOL_TAKES = timedelta(milliseconds=200)
STANDBY_SLOWER = 2.0
"""Services in the region that comes next: so much slower that no noise makes it the first choice for long."""

PIECES = 4
"""Of a streamed answer, each after its part of the time."""


class Mood(StrEnum):
    """How the services of a region behave."""

    WELL = "well"
    HANGS = "hangs"
    """A request is accepted and never answered, until the mood changes: then it is reset."""

    FAILS = "fails"
    """HTTP 500."""

    CUTS = "cuts"
    """A stream breaks after its first piece; what is not streamed is cut in the middle of its body."""


@dataclass
class Service:
    """What one region offers."""

    slots: int
    pace: float = 1.0
    """How many times slower than the others it is even when it is well."""

    mood: Mood = Mood.WELL
    times_slower: float = 1.0

    def __post_init__(self) -> None:
        self.free = asyncio.Semaphore(self.slots)
        self.changed = asyncio.Event()
        self.requests: Counter[int] = Counter()
        """By run."""

    def behave(self, mood: Mood, times_slower: float) -> None:
        self.mood, self.times_slower = mood, times_slower
        self.changed.set()
        self.changed = asyncio.Event()

    async def work(self, takes: timedelta) -> None:
        """A part of a request; where all slots are taken it waits, as it would in an engine."""
        await asyncio.sleep(takes.total_seconds() * self.pace * self.times_slower)


def said(order: int) -> str:
    """What every model answers to a run."""
    return f"answer {order * 7919 % 10_007}"


def filed(order: int) -> str:
    """What every archive holds for a run."""
    return f"file {order * 104_729 % 10_007}"


class Doubles:
    """The services of all regions, in one process."""

    def __init__(self, slots: int) -> None:
        self._services = {
            region: Service(slots, pace=STANDBY_SLOWER if region == STANDBY else 1.0) for region in COUNTRY
        }

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/control/{region}", self.control, methods=["PUT"]),
                Route("/requests", self.requests),
                Route("/health", self.healthy),
                Route("/{region}/health", self.healthy),
                Route("/{region}/v1/chat/completions", self.chat, methods=["POST"]),
                Route("/{region}/archive", self.describe),
                Route("/{region}/archive", self.look_up, methods=["POST"]),
            ]
        )

    async def control(self, request: Request) -> Response:
        told = await request.json()
        service = self._services[request.path_params["region"]]
        service.behave(Mood(told.get("mood", Mood.WELL)), float(told.get("times_slower", 1)))
        return Response()

    async def requests(self, request: Request) -> Response:
        orders = range(int(request.query_params["from"]), int(request.query_params["to"]))
        counted = {
            region: sum(count for order, count in service.requests.items() if order in orders)
            for region, service in self._services.items()
        }
        return JSONResponse(counted)

    async def healthy(self, request: Request) -> Response:
        return Response()

    async def describe(self, request: Request) -> Response:
        return JSONResponse({"description": "Finds a run's file.", "parameters": {"type": "object"}})

    async def look_up(self, request: Request) -> Response:
        service = self._services[request.path_params["region"]]
        order = int((await request.json())["order"])
        service.requests[order] += 1
        if refusal := await self._refused(service, request):
            return refusal
        async with service.free:
            await service.work(TOOL_TAKES)
        if service.mood is Mood.CUTS:
            return StreamingResponse(_cut(b'{"fi'), media_type="application/json")
        return Response(filed(order), media_type="text/plain")

    async def chat(self, request: Request) -> Response:
        service = self._services[request.path_params["region"]]
        body: dict[str, Any] = await request.json()
        question = str(body["messages"][-1]["content"])
        order = int(question.removeprefix("order ")) if question.startswith("order ") else None
        if order is not None:
            service.requests[order] += 1
        if refusal := await self._refused(service, request):
            return refusal
        text = "ready" if order is None else said(order)
        if body.get("stream"):
            return StreamingResponse(self._stream(service, text), media_type="text/event-stream")
        async with service.free:
            await service.work(MODEL_TAKES)
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return JSONResponse({"id": "0", "model": "double", "choices": [choice]})

    async def _refused(self, service: Service, request: Request) -> Response | None:
        if service.mood is Mood.FAILS:
            return JSONResponse({"error": {"message": "told to fail"}}, status_code=500)
        if service.mood is Mood.HANGS:
            await service.changed.wait()
            return StreamingResponse(_cut(b""), media_type="application/json")
        return None

    async def _stream(self, service: Service, text: str) -> AsyncIterator[bytes]:
        size = -(-len(text) // PIECES)
        async with service.free:
            for start in range(0, len(text), size):
                await service.work(MODEL_TAKES / PIECES)
                yield _event({"content": text[start : start + size]})
                if service.mood is Mood.CUTS:
                    raise ConnectionResetError
        yield _event({}, finish_reason="stop")
        yield b"data: [DONE]\n\n"


async def _cut(begin: bytes) -> AsyncIterator[bytes]:
    yield begin
    raise ConnectionResetError


def _event(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "0", "object": "chat.completion.chunk", "model": "double", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n".encode()


async def tell(url: str, region: str, *, mood: Mood = Mood.WELL, times_slower: float = 1.0) -> None:
    """Says how a region's services behave from now on."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.put(
            f"{url}/control/{region}", json={"mood": mood, "times_slower": times_slower}
        )
        answer.raise_for_status()


async def requests_for(url: str, orders: range) -> Mapping[str, int]:
    """How many requests the services of each region got for these runs."""
    async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
        answer = await client.get(f"{url}/requests", params={"from": orders.start, "to": orders.stop})
    return dict(answer.raise_for_status().json())


def serve() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--slots", type=int, required=True, help="requests that a region serves at a time")
    options = parser.parse_args()
    uvicorn.run(
        Doubles(options.slots).application(),
        host="127.0.0.1",
        port=options.port,
        log_config=None,
        lifespan="off",
        timeout_keep_alive=600,
    )


if __name__ == "__main__":
    serve()
