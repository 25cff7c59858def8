"""The control endpoint of a region's worker: health, status, and the pieces of its runs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Callable, Generator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import timedelta

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.errors import ConfigurationError
from orchestrator.fleet import WorkerStatus
from orchestrator.runtime.pieces import PieceBroker
from orchestrator.streams import NumberedPiece

KEEP_ALIVE = timedelta(seconds=75)
"""How long a connection may rest between two requests: a caller's next stream then costs it no handshake."""


def control_app(
    *,
    status: Callable[[], WorkerStatus],
    cells: Callable[[], Mapping[str, str]],
    pieces: PieceBroker,
    ready: Callable[[], bool] = lambda: True,
) -> Starlette:
    """The HTTP application.

    ``/healthz``: the process lives. ``/readyz``: 200 while it polls at least one cell and takes
    new work, once it is warm and has tried every cell. ``/status``: what it says of itself.
    ``/runs/{workflow_id}/pieces``: one JSON object a line, and an empty line where none came for
    ``QUIET``.

    Args:
        status: The worker's status now.
        cells: State of each served cell: ``polling``, or why it is not.
        ready: Whether the worker is warm, has tried every cell and is not stopping.
        pieces: Of the runs whose steps run in the region.
    """

    async def healthz(request: Request) -> Response:
        return Response(status_code=200)

    async def readyz(request: Request) -> Response:
        now, states = status(), dict(cells())
        body = {"region": now.region, "state": now.state, "cells": states}
        return JSONResponse(body, status_code=200 if ready() and "polling" in states.values() else 503)

    async def describe(request: Request) -> Response:
        return Response(status().model_dump_json(), media_type="application/json")

    async def stream(request: Request) -> Response:
        after = request.query_params.get("after", "0")
        if not after.isdecimal():
            return JSONResponse({"error": f"after is a number, not {after!r}"}, status_code=400)
        follow = request.query_params.get("follow", "true") == "true"
        numbered = pieces.listen(request.path_params["workflow_id"], after=int(after), follow=follow)
        return StreamingResponse(_lines(numbered), media_type="application/x-ndjson")

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/status", describe),
            Route("/runs/{workflow_id}/pieces", stream),
        ]
    )


async def _lines(pieces: AsyncGenerator[NumberedPiece | None]) -> AsyncGenerator[str]:
    async with aclosing(pieces):
        async for numbered in pieces:
            yield f"{numbered.model_dump_json()}\n" if numbered else "\n"


@asynccontextmanager
async def serving(app: Starlette, host: str, port: int) -> AsyncGenerator[int]:
    """Serves the application while the block runs.

    Yields:
        The port, which matters where 0 was asked for.

    Raises:
        ConfigurationError: The address cannot be listened at, such as a port in use.
    """
    listener = _listener(host, port)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=1,
        timeout_keep_alive=round(KEEP_ALIVE.total_seconds()),
    )
    server = _Server(config)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        # signals are the worker's own: it drains before it ends
        yield


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"the control endpoint cannot listen at {host}:{port}: {error.strerror}; "
            "free it, or name another address with --listen HOST:PORT"
        ) from error
    listener.setblocking(False)
    return listener
