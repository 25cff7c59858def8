"""How the bench talks to a runner: a line with a number asks, a line of JSON answers.

The time is taken in the runner, by the client that asks, so that this conversation is not in it.
"""

import argparse
import asyncio
import json
import socket
import time
from collections.abc import Awaitable, Callable

STEPS = 5
"""Each adds one, so that the answer tells whether they all ran."""

Ask = Callable[[int], Awaitable[int]]


def options(*names: str) -> argparse.Namespace:
    """What a runner was started with: ``--port`` and further options, all of them needed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    for name in names:
        parser.add_argument(f"--{name}", required=True)
    return parser.parse_args()


async def serve(port: int, ask: Ask) -> None:
    """Answer callers on a port of 127.0.0.1 until this process is ended."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                started = time.perf_counter()
                answer = await ask(int(line))
                writer.write(_reply(answer, started))
                await writer.drain()
        finally:
            # the caller learns of a failure by the end of the connection; the log has its traceback
            writer.close()

    async with await asyncio.start_server(converse, "127.0.0.1", port) as server:
        await server.serve_forever()


def serve_synchronously(port: int, ask: Callable[[int], int]) -> None:
    """As ``serve``, for libraries that are quickest in synchronous code: one caller after another."""
    with socket.create_server(("127.0.0.1", port)) as server:
        while True:
            connection, _ = server.accept()
            with connection, connection.makefile("rwb") as lines:
                for line in lines:
                    started = time.perf_counter()
                    answer = ask(int(line))
                    lines.write(_reply(answer, started))
                    lines.flush()


def _reply(answer: int, started: float) -> bytes:
    took_ms = (time.perf_counter() - started) * 1000
    return json.dumps({"answer": answer, "took_ms": took_ms}).encode() + b"\n"
