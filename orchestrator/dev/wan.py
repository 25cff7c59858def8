"""The wide area network on one machine: TCP proxies that deliver every byte half a round trip later.

Loopback has no distance. A ``DelayProxy`` gives it one: what a client writes reaches the target
half a round trip later, and the same on the way back, in order and without a limit on the
bandwidth. ``view`` puts one in front of every cell and worker of a topology. A proxy can be broken
in the ways in which networks break, and healed.
"""

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import AsyncGenerator, Callable
from datetime import timedelta
from enum import StrEnum
from typing import cast, final
from urllib.parse import urlsplit

import structlog

from orchestrator.topology import Cell, Region, Topology

log = structlog.get_logger()

WINDOW_BYTES = 16 * 1024 * 1024
"""How much may be under way in one direction before the sender has to wait: at 300 ms still 400 Mbit/s."""

NEAR_MS = 1.0
"""Below this, loopback itself stands for the distance: a proxy adds as much as it should delay."""

END = None
"""In a delay line: the sender finished writing, as TCP's FIN says."""


class _Reset:
    """In a delay line: the connection broke, as TCP's RST says."""


RESET = _Reset()


class Fault(StrEnum):
    """How a network path is broken. All of them hit open connections and new ones."""

    DROP = "drop"
    """Connections are accepted and whatever is written is swallowed, in both directions. Those that
    lost something are reset when the path heals, because nobody sends it again."""

    STALL = "stall"
    """Nothing arrives until the path heals; then everything does, in order."""

    RESET = "reset"
    """Every connection is reset at once, new ones as soon as they are made."""


class DelayProxy:
    """A TCP proxy on loopback, one way delay = half of the round trip time, in each direction.

    Bytes keep their order, a half-closed connection stays open in the other direction, and a
    target that refuses the connection resets the client after one round trip. The round trip of
    TCP's handshake is charged to the first bytes, because loopback itself connects at once.

    Args:
        target: ``host:port`` to forward to. It need not exist yet.
        rtt: Round trip time to emulate.
    """

    def __init__(self, target: str, rtt: timedelta) -> None:
        host, _, port = target.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._rtt_s = rtt.total_seconds()
        self._server: asyncio.Server | None = None
        self._pairs: set[_Pair] = set()
        self._closing = False
        self._path = _Path()

    @property
    def fault(self) -> Fault | None:
        """How the path is broken now; ``None``: it is not."""
        return self._path.fault

    def inflict(self, fault: Fault) -> None:
        """Break the path, until ``heal``. A path that is broken in another way is healed first."""
        if self._path.fault is not None:
            self.heal()
        self._path.fault = fault
        if fault is Fault.RESET:
            self._abort_all()
        elif fault is Fault.DROP:
            for pair in self._pairs:
                pair.swallow()

    def heal(self) -> None:
        """Let bytes through again. Connections whose bytes were dropped are reset."""
        self._path.fault = None
        for pair in list(self._pairs):
            if pair.broken:
                self._end(pair)
            else:
                pair.go_on()

    @property
    def address(self) -> str:
        """Where it listens, ``host:port``."""
        if self._server is None:
            raise RuntimeError("the proxy does not listen yet; use it as `async with proxy:`")
        name: tuple[str, int] = self._server.sockets[0].getsockname()
        return f"{name[0]}:{name[1]}"

    async def __aenter__(self) -> "DelayProxy":
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0, backlog=512)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._closing = True
        self._server.close()
        self._abort_all()
        # from Python 3.12 on this waits for the connections too: they are aborted above
        await self._server.wait_closed()

    def _accept(self) -> asyncio.Protocol:
        if self._closing or self._path.fault is Fault.RESET:  # or accepted just before the socket closed
            return _Refused()
        pair = _Pair(self._host, self._port, self._rtt_s, self._path, self._pairs.discard)
        self._pairs.add(pair)
        return pair.client

    def _abort_all(self) -> None:
        for pair in list(self._pairs):
            self._end(pair)

    def _end(self, pair: "_Pair") -> None:
        pair.abort()
        self._pairs.discard(pair)


class _Path:
    """What the connections of one proxy share: whether their way is broken."""

    def __init__(self) -> None:
        self.fault: Fault | None = None


class _Refused(asyncio.Protocol):
    """A connection that nobody serves any more."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        _reset(cast("asyncio.Transport", transport))


@final
class _Pair:
    """One connection through the proxy: its two ends and the delay lines between them."""

    def __init__(
        self, host: str, port: int, rtt_s: float, path: _Path, done: "Callable[[_Pair], None]"
    ) -> None:
        self._host, self._port, self._rtt_s, self._done = host, port, rtt_s, done
        self.path = path
        self.broken = False
        """Whether something was dropped: what comes after it would be out of place."""
        self.client = _End(self, opened=self._client_arrived)
        self.target = _End(self)
        self.client.peer, self.target.peer = self.target, self.client
        self._dialling: asyncio.Task[None] | None = None

    def _client_arrived(self) -> None:
        now = asyncio.get_running_loop().time()
        # with a real handshake, the client's first bytes leave after one round trip
        self.target.line = _DelayLine(self.target, self._rtt_s / 2, not_before=now + 1.5 * self._rtt_s)
        self.client.line = _DelayLine(self.client, self._rtt_s / 2, not_before=now + 2 * self._rtt_s)
        self._dialling = asyncio.create_task(self._dial())

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(self._rtt_s / 2)
        if self.path.fault is Fault.DROP:  # until it heals, and is reset
            self.broken = True
            return
        try:
            await loop.create_connection(lambda: self.target, self._host, self._port)
        except OSError as error:
            log.debug("proxy.refused", target=f"{self._host}:{self._port}", reason=type(error).__name__)
            await asyncio.sleep(self._rtt_s / 2)
            self.client.reset()
            self._done(self)

    def lost(self) -> None:
        """One end is gone: the pair is done when both are."""
        if self.client.gone and (self.target.gone or self.target.transport is None):
            self.abort()
            self._done(self)

    def swallow(self) -> None:
        """Drop what is on its way. A connection on which nothing is survives the fault, as with TCP."""
        for end in (self.client, self.target):
            if end.line is not None and end.line.drop():
                self.broken = True

    def go_on(self) -> None:
        """Deliver what waited for the path."""
        for end in (self.client, self.target):
            if end.line is not None:
                end.line.deliver()

    def abort(self) -> None:
        if self._dialling is not None and not self._dialling.done():
            self._dialling.cancel()
        for end in (self.client, self.target):
            end.reset()


class _End(asyncio.Protocol):
    """One end of a connection. What it reads goes into the line that its peer delivers from."""

    def __init__(self, pair: _Pair, opened: Callable[[], None] | None = None) -> None:
        self._pair = pair
        self._opened = opened
        self.path = pair.path
        self.peer: _End
        self.line: _DelayLine | None = None
        """What is on its way to this end."""
        self.transport: asyncio.Transport | None = None
        self.gone = False
        self.writable = True
        self._ended = False
        self._wrote_end = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        connection: socket.socket = transport.get_extra_info("socket")
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._opened is not None:
            self._opened()
        if self.line is not None:
            self.line.deliver()

    def data_received(self, data: bytes) -> None:
        self._send(data)

    def eof_received(self) -> bool:
        self._ended = True
        self._send(END)
        return True  # only this direction has ended

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        if not (self._ended and exc is None):
            self._send(RESET)
        self._pair.lost()

    def _send(self, item: bytes | _Reset | None) -> None:
        if self.path.fault is Fault.DROP:
            self._pair.broken = True
        elif self.peer.line is not None:
            self.peer.line.put(item)

    def pause_writing(self) -> None:
        self.writable = False

    def resume_writing(self) -> None:
        self.writable = True
        if self.line is not None:
            self.line.deliver()

    def write(self, item: bytes | _Reset | None) -> None:
        """Deliver one item of the line."""
        assert self.transport is not None
        if self.transport.is_closing():
            return
        if isinstance(item, _Reset):
            self.reset()
        elif item is END:
            self._wrote_end = True
            try:
                self.transport.write_eof()
            except OSError:  # the other side has reset the connection, and nobody has read that yet
                self.reset()
                return
            self._close_if_both_ended()
            self.peer._close_if_both_ended()
        else:
            self.transport.write(cast("bytes", item))

    def _close_if_both_ended(self) -> None:
        if self._wrote_end and self._ended and self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        """Break the connection, so that the other side sees a reset and no orderly end."""
        if self.line is not None:
            self.line.drop()
        if self.transport is None or self.gone:
            return
        _reset(self.transport)


class _DelayLine:
    """Bytes on their way to one end. One timer, for the oldest: equal due times keep their order."""

    def __init__(self, end: _End, delay_s: float, not_before: float) -> None:
        self._end, self._delay_s, self._not_before = end, delay_s, not_before
        self._items: deque[tuple[float, bytes | _Reset | None]] = deque()
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def put(self, item: bytes | _Reset | None) -> None:
        due = max(self._loop.time() + self._delay_s, self._not_before)
        self._items.append((due, item))
        self._bytes += len(item) if isinstance(item, bytes) else 0
        if self._bytes > WINDOW_BYTES and self._end.peer.transport is not None:
            self._end.peer.transport.pause_reading()
        self._arm()

    def deliver(self) -> None:
        """Hand over what is due, as far as the end can take it."""
        now = self._loop.time()
        while self._items and self._items[0][0] <= now and self._can_write():
            item = self._items.popleft()[1]
            self._bytes -= len(item) if isinstance(item, bytes) else 0
            self._end.write(item)
        sender = self._end.peer.transport
        if self._bytes <= WINDOW_BYTES // 2 and sender is not None and not sender.is_closing():
            sender.resume_reading()
        self._arm()

    def drop(self) -> bool:
        """Forget what is on its way; whether something was."""
        held = bool(self._items)
        self._items.clear()
        self._bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return held

    def _can_write(self) -> bool:
        end = self._end
        return end.transport is not None and end.writable and end.path.fault is not Fault.STALL

    def _arm(self) -> None:
        # while the end cannot write, its own callback delivers
        if self._timer is None and self._items and self._can_write():
            self._timer = self._loop.call_at(self._items[0][0], self._due)

    def _due(self) -> None:
        self._timer = None
        self.deliver()


def _reset(transport: asyncio.Transport) -> None:
    connection: socket.socket = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@contextlib.asynccontextmanager
async def view(
    topology: Topology, rtt_ms: Callable[[str], float], *, region: str | None = None
) -> AsyncGenerator[Topology]:
    """The topology as one place sees it: cells and workers are as far away as their regions.

    The addresses of cells and the control addresses of regions are those of delay proxies that
    live as long as the context. Offers stay as they are: a step uses those of its own region.

    Args:
        topology: With the true addresses.
        rtt_ms: Round trip time from this place to a region, in milliseconds.
        region: The region this place is in, if it is one. Its own control address stays the true
            one, because its worker listens there.
    """
    async with contextlib.AsyncExitStack() as proxies:

        async def behind_proxy(address: str, where: str) -> str:
            if rtt_ms(where) < NEAR_MS:
                return address
            proxy = DelayProxy(address, timedelta(milliseconds=rtt_ms(where)))
            return (await proxies.enter_async_context(proxy)).address

        async def seen_cell(cell: Cell) -> Cell:
            if cell.address is None:  # of a profile of temporal.toml: only its user knows the address
                return cell
            return cell.model_copy(update={"address": await behind_proxy(cell.address, cell.region)})

        async def seen_region(seen: Region) -> Region:
            if seen.control is None or seen.name == region:
                return seen
            url = urlsplit(seen.control)
            address = await behind_proxy(f"{url.hostname}:{url.port or 80}", seen.name)
            return seen.model_copy(update={"control": url._replace(netloc=address).geturl()})

        yield Topology(
            cells=tuple([await seen_cell(cell) for cell in topology.cells]),
            regions=tuple([await seen_region(seen) for seen in topology.regions]),
            links=topology.links,
            source=topology.source,
        )
