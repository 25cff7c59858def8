"""Ends runs that were started again elsewhere, as soon as the cell that had accepted them answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from orchestrator.client.cell_watch import CellWatch
from orchestrator.dispatch import Lineage, end_original

log = structlog.get_logger(__name__)

LOOKS = 3
"""At a cell that does not have the run: a start that was on its way may arrive late."""

PAUSE = timedelta(seconds=2)
"""Between two looks."""


class Originals:
    """Keeps trying in the background while the client lives.

    Args:
        cells: Clients, by the cell's name.
        watch: Knows which cells answer.
    """

    def __init__(self, cells: Mapping[str, Client], watch: CellWatch) -> None:
        self._cells = cells
        self._watch = watch
        self._ending: set[asyncio.Task[None]] = set()

    def end(self, cell: str, workflow_id: str, standing: Lineage, stands_in: str) -> None:
        """End a run in a cell that was lost.

        Args:
            cell: The lost one.
            workflow_id: The run's.
            standing: Of the run that stands in its stead.
            stands_in: The cell of that one.
        """
        ending = asyncio.create_task(self._end(cell, workflow_id, standing, stands_in))
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Tries no more: what is left is done by the workers and by ``edgeward cells reconcile``."""
        for ending in self._ending:
            ending.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _end(self, cell: str, workflow_id: str, standing: Lineage, stands_in: str) -> None:
        looks = 0
        while looks < LOOKS:
            await self._watch.answering(cell)
            try:
                found = await end_original(self._cells[cell], workflow_id, standing, stands_in)
            except (RPCError, RuntimeError, TimeoutError):
                found = None
            else:
                looks += 1
            if found is not None:
                return
            await asyncio.sleep(PAUSE.total_seconds())
