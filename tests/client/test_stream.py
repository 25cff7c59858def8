"""Following a run's pieces at real control endpoints, over connections that break."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from orchestrator.client import stream
from orchestrator.client.stream import follow, stream_client
from orchestrator.dev.processes import free_ports
from orchestrator.fleet import WorkerStatus
from orchestrator.runtime.control import control_app, serving
from orchestrator.runtime.pieces import MemoryBroker, PieceBroker
from orchestrator.streams import NumberedPiece, StreamPiece, UnreadablePieceWarning
from tests.client.cutting_proxy import CuttingProxy


def piece(text: str, place: str = "eu") -> StreamPiece:
    return StreamPiece(text=text, step="answer", sequence=1, attempt=1, place=place, workflow_id="w")


@asynccontextmanager
async def control(broker: PieceBroker, port: int = 0) -> AsyncIterator[int]:
    def status() -> WorkerStatus:
        return WorkerStatus(region="eu", state="up", queues={}, rtt_ms={}, run_times=())

    app = control_app(status=status, cells=dict, pieces=broker)
    async with serving(app, "127.0.0.1", port) as port:
        yield port


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient() as client:
        yield client


def address(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def collected(pieces: AsyncIterator[StreamPiece]) -> list[str]:
    return [piece.text async for piece in pieces]


async def test_a_stream_that_is_cut_goes_on_without_loss_or_repetition(http: httpx.AsyncClient) -> None:
    broker, finished = MemoryBroker(), asyncio.Event()
    said = [f"word {number} " for number in range(200)]
    async with control(broker) as port:
        proxy = CuttingProxy(port, bytes_each=4000)
        async with proxy.listening() as cut:
            heard: list[str] = []
            async for arrived in follow(http, [cut], "w", said_and_finished(broker, said, finished)):
                heard.append(arrived.text)
                if len(heard) == len(said):
                    finished.set()
    assert heard == said
    assert proxy.connections > 5


async def said_and_finished(broker: MemoryBroker, said: list[str], finished: asyncio.Event) -> None:
    for text in said:
        broker.publish("w", piece(text))
        await asyncio.sleep(0)
    await finished.wait()


async def test_what_has_not_arrived_when_the_run_ends_is_fetched_then(http: httpx.AsyncClient) -> None:
    broker, finished = MemoryBroker(), asyncio.Event()
    async with control(broker) as port:
        following = follow(http, [address(port)], "w", finished.wait())
        listening = asyncio.create_task(collected(following))
        for number in range(5000):
            broker.publish("w", piece(str(number)))
        finished.set()
        assert await listening == [str(number) for number in range(5000)]


async def test_the_stream_may_be_there_before_its_run_and_its_worker(http: httpx.AsyncClient) -> None:
    broker, finished = MemoryBroker(), asyncio.Event()
    [port] = free_ports(1)
    heard: list[str] = []

    async def listen() -> None:
        async for arrived in follow(http, [address(port)], "w", finished.wait()):
            heard.append(arrived.text)
            finished.set()

    listening = asyncio.create_task(listen())
    await refused(http, port)
    async with control(broker, port):
        broker.publish("w", piece("at last"))
        async with asyncio.timeout(30):
            await listening
    assert heard == ["at last"]


async def refused(http: httpx.AsyncClient, port: int) -> None:
    with pytest.raises(httpx.ConnectError):
        await http.get(address(port))


async def test_places_that_are_gone_do_not_hold_up_the_others_or_the_end(http: httpx.AsyncClient) -> None:
    broker, finished = MemoryBroker(), asyncio.Event()
    [gone] = free_ports(1)
    async with control(broker) as port:
        broker.publish("w", piece("here"))
        heard: list[str] = []
        # the same place twice is one place
        async for arrived in follow(
            http, [address(gone), address(port), address(port)], "w", finished.wait()
        ):
            heard.append(arrived.text)
            finished.set()
    assert heard == ["here"]
    assert await collected(follow(http, [address(gone)], "w", finished.wait())) == []
    assert await collected(follow(http, [], "w", finished.wait())) == []


async def test_a_run_that_fails_or_cannot_start_ends_its_stream(http: httpx.AsyncClient) -> None:
    async def fails() -> None:
        raise RuntimeError("no server")

    async with control(MemoryBroker()) as port:
        assert await collected(follow(http, [address(port)], "w", fails())) == []


async def test_any_text_is_a_piece(http: httpx.AsyncClient) -> None:
    broker, finished = MemoryBroker(), asyncio.Event()
    finished.set()
    said = ["a\nb\r\nc", "line\u2028paragraph\u2029next\x85form\x0c\x1c", "", "日本 🎉", "x" * 1_000_000]
    for text in said:
        broker.publish("w", piece(text))
    async with control(broker) as port:
        assert await collected(follow(http, [address(port)], "w", finished.wait())) == said


@pytest.mark.parametrize("line", ["{}", "no JSON", '{"number": "x"}', "\xff", '{"number":1,"piece":null}'])
async def test_what_is_no_piece_is_left_out_with_a_warning(http: httpx.AsyncClient, line: str) -> None:
    good = NumberedPiece(number=2, piece=piece("good")).model_dump_json()

    async def pieces(request: Request) -> Response:
        return PlainTextResponse(f"{line}\n\n{good}\n".encode("latin-1"))

    finished = asyncio.Event()
    app = Starlette(routes=[Route("/runs/{run}/pieces", pieces)])
    async with serving(app, "127.0.0.1", 0) as port:
        with pytest.warns(UnreadablePieceWarning, match="is no piece of text; it is left out"):
            heard: list[str] = []
            async for arrived in follow(http, [address(port)], "w", finished.wait()):
                heard.append(arrived.text)
                finished.set()
    assert heard == ["good"]


async def test_a_silent_stream_is_lost_and_one_that_says_that_it_lives_is_not(
    http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SILENCE", timedelta(milliseconds=300))
    asked, finished = 0, asyncio.Event()

    async def silent(request: Request) -> Response:
        nonlocal asked
        asked += 1
        if asked > 1:
            finished.set()
        await finished.wait()
        return PlainTextResponse("\n")

    app = Starlette(routes=[Route("/runs/{run}/pieces", silent)])
    async with serving(app, "127.0.0.1", 0) as port, asyncio.timeout(30):
        assert await collected(follow(http, [address(port)], "w", finished.wait())) == []
    assert asked > 1


class Watched:
    """A broker that knows who listens."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.came, self.went = asyncio.Event(), asyncio.Event()

    def publish(self, workflow_id: str, piece: StreamPiece) -> None:
        self.broker.publish(workflow_id, piece)

    async def listen(
        self, workflow_id: str, *, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[NumberedPiece | None]:
        try:
            async for numbered in self.broker.listen(workflow_id, after=after, follow=follow):
                self.came.set()
                yield numbered
        finally:
            self.went.set()


async def test_nobody_listens_for_a_caller_who_has_gone(http: httpx.AsyncClient) -> None:
    watched, finished = Watched(), asyncio.Event()
    watched.publish("w", piece("hello"))
    async with control(watched) as port:
        pieces = follow(http, [address(port)], "w", finished.wait())
        assert (await anext(pieces)).text == "hello"
        assert not watched.went.is_set()
        await pieces.aclose()
        async with asyncio.timeout(10):
            await watched.went.wait()


async def test_the_next_stream_takes_a_connection_that_is_open() -> None:
    broker = MemoryBroker()
    broker.publish("w", piece("hello"))
    async with control(broker) as port, stream_client() as http:
        proxy = CuttingProxy(port, bytes_each=10**9)
        async with proxy.listening() as kept:
            for connections in (2, 3):  # one to listen, which ends with the stream, and one for the rest
                finished = asyncio.Event()
                async for _ in follow(http, [kept], "w", finished.wait()):
                    finished.set()
                assert proxy.connections == connections
