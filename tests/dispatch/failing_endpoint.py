"""An OpenAI-compatible endpoint that fails in the way that it is told to: no real one does on demand."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.runtime.control import serving

PIECE = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "m"}


class FailingEndpoint:
    """Fails as ``failure`` says; ``None``: answers."""

    def __init__(self) -> None:
        self.failure: str | None = None
        self.requests = 0
        self.port = 0

    async def chat(self, request: Request) -> Response:
        self.requests += 1
        body = await request.json()
        match self.failure:
            case "500":
                return JSONResponse({"error": {"message": "broken"}}, status_code=500)
            case "429":
                return JSONResponse(
                    {"error": {"message": "slow down"}}, status_code=429, headers={"Retry-After": "1"}
                )
            case "empty":
                return Response(b"", media_type="application/json")
            case "invalid":
                return Response(b'{"choices": [', media_type="application/json")
            case "slow":
                while not await request.is_disconnected():
                    await asyncio.sleep(0.05)
            case "cut":
                return StreamingResponse(cut(), media_type="text/event-stream")
            case _:
                pass
        content = json.dumps({"colour": 7}) if self.failure == "schema" else json.dumps({"colour": "red"})
        assert not body.get("stream")
        return JSONResponse(
            {
                "id": "1",
                "object": "chat.completion",
                "created": 0,
                "model": "m",
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": content},
                    }
                ],
                "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            }
        )


async def cut() -> AsyncIterator[bytes]:
    piece = {**PIECE, "choices": [{"index": 0, "delta": {"content": "re"}, "finish_reason": None}]}
    yield f"data: {json.dumps(piece)}\n\n".encode()
    raise ConnectionResetError


@asynccontextmanager
async def failing_endpoint() -> AsyncIterator[FailingEndpoint]:
    endpoint = FailingEndpoint()
    app = Starlette(routes=[Route("/v1/chat/completions", endpoint.chat, methods=["POST"])])
    async with serving(app, "127.0.0.1", 0) as port:
        endpoint.port = port
        yield endpoint
