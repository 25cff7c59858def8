"""Which cells answer this client: asked while somebody wants to know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta

import structlog
from temporalio.api.workflowservice.v1 import GetSystemInfoRequest
from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.placement import Snapshot

log = structlog.get_logger(__name__)

ASK_EVERY = timedelta(seconds=1)
"""Between two questions to a cell."""

ANSWER_WITHIN = timedelta(seconds=2)
"""A question that takes longer is not answered."""

SILENT_AFTER = 3
"""Questions in a row without an answer, until no run is started in a cell any more."""

LOST_AFTER = timedelta(seconds=10)
"""Without an answer, until a cell counts as lost and runs may be restarted elsewhere. A server that is
restarted is back sooner; the workers stop its work sooner (``orchestrator.runtime.fence``)."""


@dataclass
class _Watched:
    client: Client
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    """Set while it answers, as far as is known."""

    lost: asyncio.Event = field(default_factory=asyncio.Event)
    wanted: int = 0
    """So many want to know."""

    silent: bool = False
    unanswered: int = 0
    silent_since: float | None = None
    asking: asyncio.Task[None] | None = None


class CellWatch:
    """Asks cells whether they are there, while runs wait for them.

    Args:
        cells: Their clients, by name.
        snapshot: What else is known of the fleet.
    """

    def __init__(self, cells: Mapping[str, Client], snapshot: Callable[[], Snapshot]) -> None:
        self._cells = {name: _Watched(client) for name, client in cells.items()}
        for watched in self._cells.values():
            watched.answers.set()
        self._snapshot = snapshot
        self.closed = False
        """Whether its client was closed."""

        self._latest: tuple[Snapshot, frozenset[str], Snapshot] | None = None

    def snapshot(self) -> Snapshot:
        """What is known of the fleet, and which cells do not answer this client."""
        snapshot = self._snapshot()
        silent = frozenset(name for name, watched in self._cells.items() if watched.silent)
        if silent <= snapshot.cells_down:
            return snapshot
        if self._latest is None or self._latest[0] is not snapshot or self._latest[1] != silent:
            both = replace(snapshot, cells_down=snapshot.cells_down | silent)
            self._latest = snapshot, silent, both
        return self._latest[2]

    def note_silent(self, cell: str) -> None:
        """A request to the cell failed: nothing is started there until it answers again."""
        watched = self._cells[cell]
        if watched.silent_since is None:
            watched.silent_since = time.monotonic()
        self._be_silent(cell, watched)
        self._ask(cell, watched)

    async def lost(self, cell: str) -> None:
        """Returns when the cell has not answered for so long that it counts as lost."""
        with self._wanting(cell) as watched:
            await watched.lost.wait()

    def is_lost(self, cell: str) -> bool:
        """Whether it counts as lost now, as far as somebody has asked."""
        return self._cells[cell].lost.is_set()

    async def answering(self, cell: str) -> None:
        """Returns when the cell answers."""
        with self._wanting(cell) as watched:
            await watched.answers.wait()

    async def close(self) -> None:
        """Asks no more; who waits for an answer goes on and sees for itself."""
        self.closed = True
        for watched in self._cells.values():
            watched.answers.set()
        asking = [watched.asking for watched in self._cells.values() if watched.asking is not None]
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    @contextmanager
    def _wanting(self, cell: str) -> Generator[_Watched]:
        watched = self._cells[cell]
        watched.wanted += 1
        self._ask(cell, watched)
        try:
            yield watched
        finally:
            watched.wanted -= 1

    def _ask(self, cell: str, watched: _Watched) -> None:
        if not self.closed and (watched.asking is None or watched.asking.done()):
            watched.asking = asyncio.create_task(self._asking(cell, watched), name=f"cell {cell}: watch")

    async def _asking(self, cell: str, watched: _Watched) -> None:
        while watched.wanted or watched.silent:
            asked = time.monotonic()
            if await _answers(watched.client):
                self._be_back(cell, watched)
            else:
                watched.unanswered += 1
                watched.silent_since = watched.silent_since or asked
                if watched.unanswered >= SILENT_AFTER:
                    self._be_silent(cell, watched)
                if time.monotonic() - watched.silent_since >= LOST_AFTER.total_seconds():
                    watched.lost.set()
            await asyncio.sleep(max(0.0, asked + ASK_EVERY.total_seconds() - time.monotonic()))
        watched.silent_since, watched.unanswered = None, 0

    def _be_silent(self, cell: str, watched: _Watched) -> None:
        if not watched.silent:
            log.warning("cell.silent", cell=cell)
        watched.silent = True
        watched.answers.clear()

    def _be_back(self, cell: str, watched: _Watched) -> None:
        if watched.silent:
            log.info("cell.answers", cell=cell)
        watched.silent, watched.unanswered, watched.silent_since = False, 0, None
        watched.lost.clear()
        watched.answers.set()


async def _answers(client: Client) -> bool:
    try:
        async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
            await client.workflow_service.get_system_info(GetSystemInfoRequest(), timeout=ANSWER_WITHIN)
    except (RPCError, RuntimeError, TimeoutError):
        return False
    return True
