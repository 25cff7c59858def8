"""An HTTP server that fails on demand, which a real endpoint does not; and one that counts connections."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    connection: int

    @property
    def json(self):
        return json.loads(self.body)


Answer = Callable[[Request, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Double:
    """Answers each request with the next of its answers, and the last of them from then on."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer_with(self, *answers: Answer) -> None:
        self.answers = list(answers)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while request := await _read(reader, connection):
                self.requests.append(request)
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                await answer(request, writer)
                await writer.drain()
        writer.close()


async def _read(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.split("\r\n")
    method, path, _ = first.split(" ")
    headers = {
        key.lower(): value.strip() for key, _, value in (line.partition(":") for line in lines if line)
    }
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Request(method, path, headers, body, connection)


@asynccontextmanager
async def running() -> AsyncIterator[Double]:
    double = Double()
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    double.port = server.sockets[0].getsockname()[1]
    try:
        yield double
    finally:
        server.close()


def status(
    code: int, body: bytes | str = b"", content_type: str = "application/json", **headers: str
) -> Answer:
    """A whole answer."""
    content = body.encode() if isinstance(body, str) else body
    extra = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        head = f"HTTP/1.1 {code} X\r\ncontent-type: {content_type}\r\ncontent-length: {len(content)}\r\n"
        writer.write((head + extra + "\r\n").encode() + content)

    return answer


def as_json(value: object, code: int = 200) -> Answer:
    return status(code, json.dumps(value))


async def silent(request: Request, writer: asyncio.StreamWriter) -> None:
    """Says nothing until the client goes away."""
    await writer.wait_closed()


async def hang_up(request: Request, writer: asyncio.StreamWriter) -> None:
    """Closes the connection instead of an answer."""
    writer.close()


def short(body: bytes) -> Answer:
    """Promises more than it sends, and closes."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n" + body
        )
        await writer.drain()
        writer.close()

    return answer


def events(*data: str, cut: bool = False, then: Awaitable[object] | None = None) -> Answer:
    """A stream of server-sent events; with ``cut`` the connection breaks before its end."""

    async def answer(request: Request, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for piece in data:
            chunk = f"data: {piece}\n\n".encode()
            writer.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            await writer.drain()
        if then is not None:
            await then
        if cut:
            writer.close()
        else:
            writer.write(b"0\r\n\r\n")

    return answer


def completion(text: str | None, finish_reason: str = "stop", **message: object) -> Answer:
    """A chat completion as endpoints give it."""
    return as_json(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "double",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, **message},
                    "finish_reason": finish_reason,
                }
            ],
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }
    )


def chunk(text: str | None = None, finish_reason: str | None = None, **delta: object) -> str:
    """An event of a streamed chat completion."""
    content = {} if text is None else {"content": text}
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "double",
            "choices": [{"index": 0, "delta": {**content, **delta}, "finish_reason": finish_reason}],
        },
        ensure_ascii=False,
    )
