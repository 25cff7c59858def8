"""Pieces of text over the bus of a region, for several worker processes of it.

Every process publishes there what its steps emit, and reads from there what a listener asks for;
so each control endpoint of the region has the pieces of all its runs. A piece's number is the one
that the bus gives it, which makes a stream resumable at any of the processes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import structlog
from nats.aio.msg import Msg
from nats.errors import MaxPayloadError
from pydantic import ValidationError

from orchestrator.runtime.bus import BusError, BusSession, Reading, bus_session, credentials
from orchestrator.runtime.pieces import HomeLoop
from orchestrator.streams import QUIET, NumberedPiece, StreamPiece
from orchestrator.topology import Region

log = structlog.get_logger(__name__)

OUTGOING = 10_000
"""Pieces that wait for the bus while it is away; the oldest are lost first."""

FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=100), timedelta(seconds=5)
"""Between two attempts to connect: it doubles."""

FLUSH = timedelta(seconds=2)
"""How long a worker that ends waits for the bus to take its last pieces."""


class BusBroker:
    """A broker over NATS. ``bus_broker`` makes and keeps it.

    ``publish`` may be called from any thread; everything else belongs to the loop in which the
    broker was made.
    """

    def __init__(self, region: Region) -> None:
        self._region = region
        self._home = HomeLoop()
        self._outgoing: deque[tuple[str, bytes]] = deque()
        self._waiting = asyncio.Event()
        self._session: asyncio.Future[BusSession] = asyncio.get_running_loop().create_future()
        self._away = False
        self._lost = 0

    def publish(self, workflow_id: str, piece: StreamPiece) -> None:
        """See ``PieceBroker``."""
        self._home.call(self._add, workflow_id, piece)

    def _add(self, workflow_id: str, piece: StreamPiece) -> None:
        if len(self._outgoing) >= OUTGOING:
            self._outgoing.popleft()
            self._lost += 1
        self._outgoing.append((workflow_id, piece.model_dump_json().encode()))
        self._waiting.set()

    async def listen(
        self, workflow_id: str, *, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[NumberedPiece | None]:
        """See ``PieceBroker``. While the bus is away there are no pieces."""
        while True:
            await asyncio.wait({self._session}, timeout=QUIET.total_seconds() if follow else 0)
            if self._session.done():
                session = self._session.result()
                try:
                    async for numbered in _read(session, workflow_id, after, follow=follow):
                        after = numbered.number if numbered else after
                        yield numbered
                except BusError as error:
                    log.debug("bus.reading_again", region=self._region.name, error=type(error).__name__)
                    if follow:
                        await self._recover(session)
            if not follow:
                return
            yield None

    async def _recover(self, session: BusSession) -> None:
        """After a reading failed: a pause, and the stream, in case that the bus has lost it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_PAUSE.total_seconds()):
                await session.closed.wait()
                return
        with contextlib.suppress(*BusError):
            await session.make_stream()

    async def keep(self) -> None:
        """Connects, sends what is published, and connects again, for ever."""
        pause = FIRST_PAUSE
        while True:
            try:
                async with bus_session(self._region) as session:
                    pause = FIRST_PAUSE
                    self._connected(session)
                    await self._send(session)
                raise ConnectionError("the connection has ended")
            except Exception as error:  # whatever goes wrong there, the steps go on without it
                self._disconnected(error)
            await asyncio.sleep(pause.total_seconds())
            pause = min(2 * pause, LONGEST_PAUSE)

    def _connected(self, session: BusSession) -> None:
        self._session.set_result(session)
        log.info("bus.connected", region=self._region.name, lost_pieces=self._lost)
        self._away, self._lost = False, 0

    def _disconnected(self, error: Exception) -> None:
        if self._session.done():
            self._session = asyncio.get_running_loop().create_future()
        if not self._away:  # once an outage, not once a piece or an attempt
            log.warning("bus.away", region=self._region.name, error=f"{type(error).__name__}: {error}")
        self._away = True

    async def _send(self, session: BusSession) -> None:
        session.on_end(self._waiting.set)
        while not session.closed.is_set():
            self._waiting.clear()
            await self._send_waiting(session)
            await self._waiting.wait()

    async def _send_waiting(self, session: BusSession) -> None:
        while self._outgoing and not session.closed.is_set():
            workflow_id, payload = self._outgoing.popleft()
            try:
                await session.publish(workflow_id, payload)
            except MaxPayloadError:
                log.warning("bus.piece_too_large", region=self._region.name, bytes=len(payload))
            except BusError:
                self._outgoing.appendleft((workflow_id, payload))
                raise

    async def flush(self) -> None:
        """Sends what waits, if the bus is there and takes it in time."""
        if not self._session.done():
            return
        session = self._session.result()
        with contextlib.suppress(*BusError):
            async with asyncio.timeout(FLUSH.total_seconds()):
                await self._send_waiting(session)
                await session.flush()


@asynccontextmanager
async def bus_broker(region: Region) -> AsyncGenerator[BusBroker]:
    """A broker over the region's bus while the block runs. The bus may come later, and go.

    Raises:
        ConfigurationError: The bus's secret cannot be read.
    """
    credentials(region)  # said now, and not when the bus is first there
    broker = BusBroker(region)
    keeping = asyncio.create_task(broker.keep())
    try:
        yield broker
    finally:
        await broker.flush()
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _read(
    session: BusSession, workflow_id: str, after: int, *, follow: bool
) -> AsyncGenerator[NumberedPiece | None]:
    """The pieces of one reading; ConnectionError where some are missing, so that it begins again."""
    async with session.reading(workflow_id, after) as reading:
        seen, pending = 0, reading.pending
        while follow or pending:
            message = await _next(reading)
            if message is None or session.closed.is_set():
                raise ConnectionError("the connection has ended")
            if _is_heartbeat(message):
                if _delivered(message) != seen:
                    raise ConnectionError("messages were dropped")
                yield None
                continue
            metadata = message.metadata
            seen, pending = seen + 1, metadata.num_pending
            if metadata.sequence.consumer != seen:
                raise ConnectionError("messages were dropped")
            piece = _piece(message)
            if piece is not None:
                yield NumberedPiece(number=metadata.sequence.stream, piece=piece)


async def _next(reading: Reading) -> Msg | None:
    if not reading.messages.empty():
        return reading.messages.get_nowait()
    if reading.overflowed:
        raise ConnectionError("messages were dropped")
    # the bus says every QUIET that it lives
    async with asyncio.timeout(2.5 * QUIET.total_seconds()):
        return await reading.messages.get()


def _is_heartbeat(message: Msg) -> bool:
    return not message.data and message.headers is not None and "Status" in message.headers


def _delivered(message: Msg) -> int:
    headers = message.headers or {}
    return int(headers.get("Nats-Last-Consumer", 0))


def _piece(message: Msg) -> StreamPiece | None:
    try:
        return StreamPiece.model_validate_json(message.data)
    except ValidationError:
        log.warning("bus.piece_unreadable", subject=message.subject)
        return None
