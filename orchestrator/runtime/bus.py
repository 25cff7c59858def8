"""The connection of a worker to its region's bus: a NATS server with JetStream."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import nats
import nats.errors
import structlog
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig
from nats.js.client import JetStreamContext
from nats.js.errors import BadRequestError, NotFoundError

from orchestrator.errors import ConfigurationError
from orchestrator.runtime.pieces import PIECES, first_number
from orchestrator.streams import QUIET
from orchestrator.topology import Region

log = structlog.get_logger(__name__)

KEPT = timedelta(minutes=10)
"""How long the bus keeps a piece for those who listen late."""

KEPT_BYTES = 64 * 2**20
"""How much of a region's pieces it keeps, in memory; the oldest go first."""

READ_AHEAD, BEHIND = 256, 10_000
"""Messages that wait in this process for one slow listener, taken up and not. What is more is dropped,
and asked for again when the listener gets there."""

ALIVE = timedelta(seconds=5)
"""How often the connection is tried; two tries without an answer end it."""

CONNECT_S = 2

BusError = (nats.errors.Error, OSError, TimeoutError)
"""What a bus that is away, or that refuses, raises."""

JWT = "-----BEGIN NATS USER JWT-----"


class Reading:
    """What the bus has of one run after a number, and what comes."""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Msg | None] = asyncio.Queue(READ_AHEAD)
        """None at the end of the connection."""

        self.pending = 0
        """How many pieces were there when the reading began."""

        self.overflowed = False
        """Whether messages were dropped after those that wait."""


class BusSession:
    """One connection, from its beginning to its end."""

    def __init__(self, region: str, client: Client) -> None:
        self.closed = asyncio.Event()
        self._region = region
        self._client = client
        self._stream: JetStreamContext = client.jetstream()  # pyright: ignore[reportUnknownMemberType] -- untyped options
        self._readings: dict[Subscription, Reading] = {}
        self._on_end: list[Callable[[], None]] = []

    def on_end(self, callback: Callable[[], None]) -> None:
        """Calls back when the connection has ended."""
        self._on_end.append(callback)

    async def end(self) -> None:
        """Tells whoever uses it that the connection has ended."""
        self.closed.set()
        for callback in self._on_end:
            callback()
        for reading in self._readings.values():
            with contextlib.suppress(asyncio.QueueFull):  # then the reader is awake, and looks at ``closed``
                reading.messages.put_nowait(None)

    async def note(self, error: Exception) -> None:
        """Takes what the client reports besides."""
        log.debug("bus.error", error=type(error).__name__)
        if isinstance(error, nats.errors.SlowConsumerError) and error.sub in self._readings:
            self._readings[error.sub].overflowed = True

    def subject(self, workflow_id: str) -> str:
        """Where the pieces of a run are published; any text can be a workflow id."""
        return f"edgeward.pieces.{self._region}.{workflow_id.encode().hex()}"

    async def publish(self, workflow_id: str, payload: bytes) -> None:
        """Sends a piece. It is not confirmed: a step must not wait for that.

        Raises:
            nats.errors.Error: It is too large, or the connection has ended.
        """
        await self._client.publish(self.subject(workflow_id), payload)

    async def flush(self) -> None:
        """Waits until the server has everything."""
        await self._client.flush()

    async def make_stream(self) -> None:
        """Makes sure that the bus keeps the pieces of the region.

        Raises:
            nats.errors.Error: It refuses, such as a server without JetStream.
        """
        try:
            await self._stream.stream_info(self._name)
        except NotFoundError:
            with contextlib.suppress(BadRequestError):  # another process was faster, at another microsecond
                await self._stream.add_stream(self._configuration())  # pyright: ignore[reportUnknownMemberType] -- untyped options

    @property
    def _name(self) -> str:
        return f"edgeward-pieces-{self._region}"

    def _configuration(self) -> StreamConfig:
        return StreamConfig(
            name=self._name,
            subjects=[f"edgeward.pieces.{self._region}.*"],
            storage=StorageType.MEMORY,
            discard=DiscardPolicy.OLD,
            max_age=KEPT.total_seconds(),
            max_bytes=KEPT_BYTES,
            max_msgs_per_subject=PIECES,
            first_seq=first_number(),
        )

    @asynccontextmanager
    async def reading(self, workflow_id: str, after: int) -> AsyncGenerator[Reading]:
        """Reads a run's pieces while the block runs.

        Raises:
            nats.errors.Error: The bus refuses, or the connection has ended.
        """
        reading, inbox = Reading(), self._client.new_inbox()
        subscription = await self._client.subscribe(  # pyright: ignore[reportUnknownMemberType] -- untyped future
            inbox, cb=reading.messages.put, pending_msgs_limit=BEHIND
        )
        self._readings[subscription] = reading
        try:
            consumer = await self._stream.add_consumer(  # pyright: ignore[reportUnknownMemberType] -- untyped options
                self._name,
                ConsumerConfig(
                    filter_subject=self.subject(workflow_id),
                    deliver_subject=inbox,
                    deliver_policy=DeliverPolicy.BY_START_SEQUENCE if after else DeliverPolicy.ALL,
                    opt_start_seq=after + 1 if after else None,
                    ack_policy=AckPolicy.NONE,
                    idle_heartbeat=QUIET.total_seconds(),
                    mem_storage=True,
                    num_replicas=1,
                ),
            )
            reading.pending = consumer.num_pending or 0
            yield reading
        finally:
            del self._readings[subscription]
            # without a subscriber the server forgets the consumer
            with contextlib.suppress(*BusError):
                await subscription.unsubscribe()


@asynccontextmanager
async def bus_session(region: Region) -> AsyncGenerator[BusSession]:
    """A connection while the block runs; ``closed`` says when it has ended by itself.

    Raises:
        ConfigurationError: The secret cannot be read.
        nats.errors.Error, OSError: The bus is away, or it refuses.
    """
    client = Client()
    session = BusSession(region.name, client)
    try:
        await client.connect(
            address(region),
            name=f"edgeward {region.name}",
            # whoever keeps the session connects again: then the stream may have to be made again too
            allow_reconnect=False,
            connect_timeout=CONNECT_S,
            ping_interval=round(ALIVE.total_seconds()),
            max_outstanding_pings=2,
            error_cb=session.note,
            closed_cb=session.end,
            **credentials(region),
        )
        await session.make_stream()
        yield session
    finally:
        with contextlib.suppress(*BusError):
            await client.close()


def address(region: Region) -> str:
    """Of the region's bus, without the user, who goes with the secret."""
    parts = urlsplit(region.bus or "")
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def credentials(region: Region) -> dict[str, Any]:
    """Who this process is to the bus, as NATS's client takes it.

    Raises:
        ConfigurationError: The secret cannot be read. The message does not hold it.
    """
    try:
        secret = region.bus_secret()
    except KeyError:
        raise ConfigurationError(
            f"region {region.name}: its bus_secret_env names {region.bus_secret_env}, which is not set; "
            "set that environment variable for the worker"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"region {region.name}: its bus_secret_file {region.bus_secret_file} cannot be read "
            f"({type(error).__name__}); let the worker read it"
        ) from None
    user = urlsplit(region.bus or "").username
    if secret is not None and JWT in secret:
        return {"user_credentials": RawCredentials(secret)}
    if user is not None:
        return {"user": user, "password": secret or ""}
    return {} if secret is None else {"token": secret}
