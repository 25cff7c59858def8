"""A server in the format of OpenAI's that answers at once: what is left is what the way there costs.

``python -m bench.tokens_server --port 8080``. Its tokens are times, so that whoever reads them knows
how long they were on their way: the first is when the request arrived, each other when it was sent.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.dev.processes import ChildProcess, Supervisor, port_answers

TOKENS = 25
GAP = timedelta(milliseconds=5)
"""Between two tokens, as of a fast model."""


def application() -> Starlette:
    async def answer(request: Request) -> Response:
        arrived = time.time_ns()
        if not (await request.json()).get("stream"):  # a worker that warms up
            message = {"role": "assistant", "content": "ready"}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return JSONResponse({"id": "0", "model": "instant", "choices": [choice]})
        return StreamingResponse(_events(arrived), media_type="text/event-stream")

    async def healthy(request: Request) -> Response:
        return Response()

    return Starlette(
        routes=[Route("/v1/chat/completions", answer, methods=["POST"]), Route("/health", healthy)]
    )


async def _events(arrived: int) -> AsyncIterator[str]:
    yield _event({"content": f"{arrived} {time.time_ns()} "})
    for _ in range(TOKENS - 1):
        await asyncio.sleep(GAP.total_seconds())
        yield _event({"content": f"{time.time_ns()} "})
    yield _event({}, finish_reason="stop")
    yield "data: [DONE]\n\n"


def _event(delta: dict[str, str], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {"id": "0", "object": "chat.completion.chunk", "model": "instant", "choices": [choice]}
    return f"data: {json.dumps(chunk)}\n\n"


async def start_instant_server(supervisor: Supervisor, port: int) -> ChildProcess:
    process = await supervisor.start(
        "instant server", [sys.executable, "-m", "bench.tokens_server", "--port", str(port)]
    )
    await process.until_ready(lambda: port_answers(port), within=timedelta(seconds=60))
    return process


def serve() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    port = parser.parse_args().port
    uvicorn.run(
        application(), host="127.0.0.1", port=port, log_config=None, lifespan="off", timeout_keep_alive=600
    )


if __name__ == "__main__":
    serve()
