"""Proxies that are broken as networks break: what open and new connections see, and that they heal."""

import asyncio
from datetime import timedelta

import pytest

from orchestrator.dev.wan import DelayProxy, Fault
from tests.dev.test_wan import connect, echo, serving

RTT = timedelta(milliseconds=4)

QUIET_S = 0.2
"""Fifty round trips: what has not come by then is not on its way."""


async def ask(connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], text: bytes) -> bytes:
    reader, writer = connection
    writer.write(text)
    return await reader.readexactly(len(text))


async def silence(reader: asyncio.StreamReader) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(QUIET_S):
            await reader.read(1)


async def test_what_was_dropped_is_lost_and_the_connection_reset_when_the_path_heals() -> None:
    async with serving(echo) as address, DelayProxy(address, RTT) as proxy:
        hit, idle = await connect(proxy.address), await connect(proxy.address)
        for connection in (hit, idle):
            assert await ask(connection, b"before") == b"before"
        proxy.inflict(Fault.DROP)
        assert proxy.fault is Fault.DROP
        hit[1].write(b"lost")
        new = await connect(proxy.address)  # accepted, and nothing more
        new[1].write(b"lost too")
        await silence(hit[0])
        await silence(new[0])
        proxy.heal()
        for reader, _ in (hit, new):
            with pytest.raises(ConnectionResetError):
                await reader.read(1)
        assert await ask(idle, b"nothing of it was lost") == b"nothing of it was lost"
        assert await ask(await connect(proxy.address), b"after") == b"after"


async def test_what_was_on_its_way_is_dropped_too() -> None:
    async with serving(echo) as address, DelayProxy(address, timedelta(milliseconds=200)) as proxy:
        reader, writer = await connect(proxy.address)
        writer.write(b"under way")
        await writer.drain()
        await asyncio.sleep(0)  # the proxy reads it
        async with asyncio.timeout(5):
            while not any(pair.target.line and pair.target.line._items for pair in proxy._pairs):
                await asyncio.sleep(0.001)
        proxy.inflict(Fault.DROP)
        proxy.heal()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


async def test_what_stalled_arrives_in_order_when_the_path_heals() -> None:
    async with serving(echo) as address, DelayProxy(address, RTT) as proxy:
        reader, writer = await connect(proxy.address)
        assert await ask((reader, writer), b"before") == b"before"
        proxy.inflict(Fault.STALL)
        writer.write(b"one ")
        writer.write(b"two")
        new = await connect(proxy.address)
        new[1].write(b"new")
        await silence(reader)
        await silence(new[0])
        proxy.heal()
        assert await reader.readexactly(7) == b"one two"
        assert await new[0].readexactly(3) == b"new"


async def test_connections_are_reset_at_once_and_new_ones_too() -> None:
    async with serving(echo) as address, DelayProxy(address, RTT) as proxy:
        open_before = await connect(proxy.address)
        assert await ask(open_before, b"before") == b"before"
        proxy.inflict(Fault.RESET)
        with pytest.raises(ConnectionResetError):
            await open_before[0].read(1)
        with pytest.raises(ConnectionResetError):
            reader, _ = await connect(proxy.address)
            await reader.read(1)
        proxy.heal()
        assert proxy.fault is None
        assert await ask(await connect(proxy.address), b"after") == b"after"


@pytest.mark.parametrize("fault", Fault)
async def test_a_broken_proxy_closes(fault: Fault) -> None:
    async with serving(echo) as address, DelayProxy(address, RTT) as proxy:
        _, writer = await connect(proxy.address)
        writer.write(b"x")
        proxy.inflict(fault)
        writer.close()
    assert not proxy._pairs
