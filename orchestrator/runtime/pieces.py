"""The pieces of text of a region's runs, kept for whoever listens, also a little late."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

from orchestrator.errors import ConfigurationError
from orchestrator.streams import QUIET, NumberedPiece, StreamPiece
from orchestrator.topology import Region

RUNS = 1000
"""Runs whose pieces are kept in memory; the one that was quiet for the longest goes first."""

PIECES = 10_000
"""Latest pieces kept of a run."""


class PieceBroker(Protocol):
    """Hands pieces from the steps of a region to the listeners of runs."""

    def publish(self, workflow_id: str, piece: StreamPiece) -> None:
        """Adds a piece to a run. May be called from any thread; neither blocks nor raises.

        Args:
            workflow_id: Of the run that the user started.
            piece: What a step emitted.
        """
        ...

    def listen(
        self, workflow_id: str, *, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[NumberedPiece | None]:
        """The pieces of a run with a number above ``after``; a run need not exist yet.

        Args:
            workflow_id: Of the run that the user started.
            after: The last number that the listener has.
            follow: Go on with those that come; otherwise end with those that are there.

        Yields:
            Pieces in the order of their numbers; None where none came for ``QUIET``.
        """
        ...


@asynccontextmanager
async def piece_broker(region: Region) -> AsyncGenerator[PieceBroker]:
    """The broker that the topology asks for: over the region's bus, or in memory without one.

    Raises:
        ConfigurationError: The bus cannot be spoken to: its client is not installed, or its
            secret cannot be read.
    """
    if region.bus is None:
        yield MemoryBroker()
        return
    try:
        from orchestrator.runtime.pieces_bus import bus_broker
    except ImportError as error:
        raise ConfigurationError(
            f"region {region.name} has a bus, and nats-py is not installed; pip install 'edgeward[nats]'"
        ) from error
    async with bus_broker(region) as broker:
        yield broker


def first_number() -> int:
    """A number above all that were given before: the microseconds since 1970.

    A process, or a bus, that starts again goes on from here, so that listeners who have seen its
    earlier numbers do not take the new pieces for old ones. Below 2**53 until the year 2255.
    """
    return time.time_ns() // 1000


class HomeLoop:
    """The loop in which it was made, to be called from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()

    def call(
        self, function: Callable[[str, StreamPiece], None], workflow_id: str, piece: StreamPiece
    ) -> None:
        """At once where this is the loop's thread, else soon; calls of one thread keep their order."""
        if threading.get_ident() == self._thread:
            function(workflow_id, piece)
            return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
            self._loop.call_soon_threadsafe(function, workflow_id, piece)


@dataclass
class _Run:
    pieces: deque[NumberedPiece] = field(default_factory=lambda: deque[NumberedPiece](maxlen=PIECES))
    listeners: set[asyncio.Event] = field(default_factory=set[asyncio.Event])


class MemoryBroker:
    """A broker for steps and listeners in the same process.

    ``publish`` may be called from any thread; everything else belongs to the loop in which the
    broker was made. A listener that comes late, or again, gets what it has not had yet.
    """

    def __init__(self) -> None:
        self._home = HomeLoop()
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._number = first_number()

    def publish(self, workflow_id: str, piece: StreamPiece) -> None:
        """See ``PieceBroker``."""
        self._home.call(self._add, workflow_id, piece)

    async def listen(
        self, workflow_id: str, *, after: int = 0, follow: bool = True
    ) -> AsyncGenerator[NumberedPiece | None]:
        """See ``PieceBroker``."""
        run = self._run(workflow_id)
        changed = asyncio.Event()
        run.listeners.add(changed)
        try:
            while True:
                changed.clear()
                for numbered in _newer(run.pieces, after):
                    after = numbered.number
                    yield numbered
                if not follow:
                    return
                if not await _happens(changed):
                    yield None
        finally:
            run.listeners.discard(changed)

    def _add(self, workflow_id: str, piece: StreamPiece) -> None:
        run = self._run(workflow_id)
        self._number += 1
        run.pieces.append(NumberedPiece(number=self._number, piece=piece))
        for changed in run.listeners:
            changed.set()

    def _run(self, workflow_id: str) -> _Run:
        run = self._runs.setdefault(workflow_id, _Run())
        self._runs.move_to_end(workflow_id)
        while len(self._runs) > RUNS:
            others = (name for name, other in self._runs.items() if other is not run and not other.listeners)
            quiet = next(others, None)
            if quiet is None:
                break
            del self._runs[quiet]
        return run


def _newer(pieces: deque[NumberedPiece], after: int) -> list[NumberedPiece]:
    """From the end, because listeners lack few of many."""
    return list(takewhile(lambda numbered: numbered.number > after, reversed(pieces)))[::-1]


async def _happens(event: asyncio.Event) -> bool:
    """Whether it does before it was quiet for too long."""
    if not event.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(QUIET.total_seconds()):
                await event.wait()
    return event.is_set()
