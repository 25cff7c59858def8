import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from random import Random

import pytest

from orchestrator.dev.wan import DelayProxy, view
from orchestrator.geography import Coordinates
from orchestrator.topology import Cell, Link, Offer, Region, Topology

RTT = timedelta(milliseconds=60)
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    try:
        yield f"{host}:{port}"
    finally:
        server.close()


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, _, port = address.rpartition(":")
    return await asyncio.open_connection(host, int(port))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


async def answer_after_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    everything = await reader.read()
    writer.write(str(len(everything)).encode())
    writer.close()


async def round_trip(address: str, payload: bytes) -> bytes:
    reader, writer = await connect(address)

    async def send() -> None:
        for start in range(0, len(payload), 70_001):
            writer.write(payload[start : start + 70_001])
            await writer.drain()
        writer.write_eof()

    _, received = await asyncio.gather(send(), reader.read())
    writer.close()
    return received


async def test_every_byte_arrives_in_order_on_concurrent_connections() -> None:
    random = Random(7)
    payloads = [random.randbytes(random.randrange(1, 400_000)) for _ in range(24)]
    async with serving(echo) as address, DelayProxy(address, RTT) as proxy:
        received = await asyncio.gather(*(round_trip(proxy.address, payload) for payload in payloads))
    assert received == payloads


async def test_more_than_a_window_arrives_whole() -> None:
    payload = Random(8).randbytes(40 * 1024 * 1024)
    async with serving(echo) as address, DelayProxy(address, RTT) as proxy:
        assert await round_trip(proxy.address, payload) == payload


async def test_a_half_closed_connection_still_answers() -> None:
    async with serving(answer_after_end) as address, DelayProxy(address, RTT) as proxy:
        assert await round_trip(proxy.address, b"x" * 1000) == b"1000"


async def test_a_server_that_speaks_first_is_heard() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with serving(greet) as address, DelayProxy(address, RTT) as proxy:
        reader, writer = await connect(proxy.address)
        assert await reader.read() == b"hello"
        writer.close()


async def test_a_dead_target_resets_the_client() -> None:
    async with serving(echo) as address:
        pass
    async with DelayProxy(address, RTT) as proxy:
        reader, writer = await connect(proxy.address)
        writer.write(b"anybody?")
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()


async def test_a_target_may_come_up_after_its_proxy() -> None:
    async with serving(echo) as address:
        pass
    async with DelayProxy(address, RTT) as proxy:
        reader, writer = await connect(proxy.address)
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()
        host, _, port = address.rpartition(":")
        server = await asyncio.start_server(echo, host, int(port))
        assert await round_trip(proxy.address, b"now") == b"now"
        server.close()


@pytest.mark.parametrize("side", ["client", "target"])
async def test_a_reset_travels_to_the_other_side(side: str) -> None:
    arrived = asyncio.Event()
    broken: asyncio.Queue[str] = asyncio.Queue()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        if side == "target":
            writer.transport.abort()
            return
        try:
            await broken.put("end" if await reader.read() == b"" else "data")
        except ConnectionResetError:
            await broken.put("reset")
        writer.close()

    async with serving(handler) as address, DelayProxy(address, RTT) as proxy:
        reader, writer = await connect(proxy.address)
        writer.write(b"x")
        await asyncio.wait_for(arrived.wait(), 10)
        if side == "client":
            # unread data makes the kernel answer a close with a reset
            writer.transport.abort()
            assert await asyncio.wait_for(broken.get(), 10) in {"reset", "end"}
        else:
            with contextlib.suppress(ConnectionResetError):
                assert await asyncio.wait_for(reader.read(), 10) == b""
            writer.close()


async def test_the_proxy_ends_with_connections_open() -> None:
    async with serving(echo) as address:
        async with DelayProxy(address, RTT) as proxy:
            reader, writer = await connect(proxy.address)
            writer.write(b"x")
            assert await reader.readexactly(1) == b"x"
        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(reader.read(), 10)
        writer.close()


async def exchanges(address: str, count: int) -> list[float]:
    reader, writer = await connect(address)
    times: list[float] = []
    for _ in range(count + 1):  # the first one pays for the handshake
        start = time.perf_counter()
        writer.write(b"x")
        await reader.readexactly(1)
        times.append(time.perf_counter() - start)
    writer.close()
    return times


async def test_an_exchange_takes_a_round_trip_and_the_first_one_two() -> None:
    near, far = timedelta(milliseconds=20), timedelta(milliseconds=80)
    async with (
        serving(echo) as address,
        DelayProxy(address, near) as near_proxy,
        DelayProxy(address, far) as far_proxy,
    ):
        direct = await exchanges(address, 9)
        through_near = await exchanges(near_proxy.address, 9)
        through_far = await exchanges(far_proxy.address, 9)
    # a delay cannot be too short; that the machine is busy makes it longer: so the shortest counts
    assert min(direct) < min(through_near) / 4
    assert min(through_near) >= 0.020
    assert min(through_far[1:]) >= 0.080
    assert 3 < min(through_far[1:]) / min(through_near[1:]) < 5
    assert through_far[0] >= 0.160


TOPOLOGY = Topology(
    cells=(
        Cell(
            name="eu", region="frankfurt", address="127.0.0.1:7001", namespace="eu", ui="http://127.0.0.1:1"
        ),
        Cell(name="cloud", region="frankfurt", profile="prod"),
    ),
    regions=(
        Region(
            name="frankfurt",
            coordinates=Coordinates(50.1, 8.7),
            country="DE",
            cell="eu",
            control="http://127.0.0.1:7002",
            offers=(Offer(kind="model", name="chat", endpoint="http://127.0.0.1:7003/v1"),),
        ),
        Region(
            name="ashburn",
            coordinates=Coordinates(39.0, -77.5),
            country="US",
            cell="eu",
            control="http://127.0.0.1:7004",
        ),
    ),
    links=(Link(source="frankfurt", target="ashburn", rtt_ms=92.6),),
)


async def test_a_view_moves_what_is_far_and_leaves_the_rest() -> None:
    async with view(TOPOLOGY, {"frankfurt": 4.0, "ashburn": 92.6}.__getitem__, region="frankfurt") as seen:
        assert seen.cell("eu").address != "127.0.0.1:7001"
        assert seen.cell("eu").model_copy(update={"address": "127.0.0.1:7001"}) == TOPOLOGY.cell("eu")
        assert seen.cell("cloud") == TOPOLOGY.cell("cloud")
        assert seen.region("frankfurt") == TOPOLOGY.region("frankfurt")
        assert seen.region("ashburn").control != "http://127.0.0.1:7004"
        assert seen.links == TOPOLOGY.links
    async with view(TOPOLOGY, {"frankfurt": 0.6, "ashburn": 92.6}.__getitem__) as seen:
        assert seen.cell("eu") == TOPOLOGY.cell("eu")  # loopback is far enough
    async with view(TOPOLOGY, lambda _: 10.0) as seen:
        assert seen.region("frankfurt").control != TOPOLOGY.region("frankfurt").control


async def test_a_view_reaches_the_true_addresses() -> None:
    async with serving(echo) as cell, serving(answer_after_end) as control:
        true = TOPOLOGY.model_copy(
            update={
                "cells": (TOPOLOGY.cell("eu").model_copy(update={"address": cell}),),
                "regions": (
                    TOPOLOGY.region("frankfurt").model_copy(update={"control": f"http://{control}"}),
                    TOPOLOGY.region("ashburn"),
                ),
            }
        )
        async with view(true, lambda _: 10.0) as seen:
            address, url = seen.cell("eu").address, seen.region("frankfurt").control
            assert address is not None
            assert url is not None
            assert await round_trip(address, b"to the cell") == b"to the cell"
            assert await round_trip(url.removeprefix("http://"), b"four") == b"4"


async def test_an_end_that_meets_a_reset_breaks_nothing() -> None:
    """The client resets while the server's orderly end is still on its way."""
    wrong: list[dict[str, object]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    ending, ended = asyncio.Event(), asyncio.Event()

    async def end_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readexactly(1)
            writer.write_eof()
            ending.set()
            await reader.read()
        writer.close()
        ended.set()

    try:
        async with serving(end_at_once) as target, DelayProxy(target, RTT) as proxy:
            for _ in range(3):
                ending.clear()
                ended.clear()
                _, writer = await connect(proxy.address)
                writer.write(b"x")
                # after its end the proxy does not read from the client any more, so it sees no reset
                writer.write_eof()
                async with asyncio.timeout(10):
                    await ending.wait()
                writer.transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                writer.transport.abort()
                async with asyncio.timeout(10):
                    await ended.wait()
                await asyncio.sleep(RTT.total_seconds())  # until the server's end was due at the client
    finally:
        loop.set_exception_handler(None)
    assert [context["message"] for context in wrong if "DelayLine" in str(context["message"])] == []
