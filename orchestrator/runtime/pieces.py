"""The pieces of text of a region's runs, kept for whoever listens, also a little late."""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from orchestrator.streams import NumberedPiece, StreamPiece

RUNS = 1000
"""Runs whose pieces are kept; the one that was quiet for the longest goes first."""

PIECES = 10_000
"""Latest pieces kept of a run."""


@dataclass
class _Run:
    pieces: deque[NumberedPiece] = field(default_factory=lambda: deque[NumberedPiece](maxlen=PIECES))
    count: int = 0
    listeners: int = 0


class PieceBroker:
    """Hands pieces from steps to listeners in the same process.

    ``publish`` may be called from any thread; everything else belongs to the loop in which the
    broker was made. A listener that comes late, or again, gets what it has not had yet.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._changed = asyncio.Condition()
        self._thread = threading.get_ident()
        self._wakers: set[asyncio.Task[None]] = set()

    def publish(self, workflow_id: str, piece: StreamPiece) -> None:
        """Adds a piece to a run.

        Args:
            workflow_id: Of the run that the user started.
            piece: What a step emitted.
        """
        if threading.get_ident() == self._thread:
            self._add(workflow_id, piece)
        else:
            self._loop.call_soon_threadsafe(self._add, workflow_id, piece)

    async def listen(
        self, workflow_id: str, *, after: int = 0, follow: bool = True
    ) -> AsyncIterator[NumberedPiece]:
        """The pieces of a run with a number above ``after``.

        Args:
            workflow_id: Of the run that the user started.
            after: The last number that the listener has.
            follow: Go on with those that come; otherwise end with those that are there.
        """
        run = self._run(workflow_id)
        run.listeners += 1
        try:
            while True:
                for numbered in [numbered for numbered in run.pieces if numbered.number > after]:
                    after = numbered.number
                    yield numbered
                if not follow:
                    return
                async with self._changed:
                    if run.count <= after:
                        await self._changed.wait()
        finally:
            run.listeners -= 1

    def _add(self, workflow_id: str, piece: StreamPiece) -> None:
        run = self._run(workflow_id)
        run.count += 1
        run.pieces.append(NumberedPiece(number=run.count, piece=piece))
        if run.listeners:
            waker = self._loop.create_task(self._wake())
            self._wakers.add(waker)
            waker.add_done_callback(self._wakers.discard)

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _run(self, workflow_id: str) -> _Run:
        run = self._runs.setdefault(workflow_id, _Run())
        self._runs.move_to_end(workflow_id)
        while len(self._runs) > RUNS:
            quiet = next((name for name, other in self._runs.items() if not other.listeners), None)
            if quiet is None:
                break
            del self._runs[quiet]
        return run
