"""Goes on with the runs of another region while its workers are gone.

A workflow's task queue is fixed at its start, so somebody has to come and poll it. Two regions that
poll the same queue do no harm: each workflow task goes to one of them. So a standby rather comes once
too often, when only its own way to the home is cut, than too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import timedelta

import httpx
import structlog

from orchestrator.runtime.cell_service import CellService
from orchestrator.runtime.pausing import within
from orchestrator.topology import Region

log = structlog.get_logger(__name__)

INTERVAL = timedelta(seconds=1)
"""Between two looks at a home that answers."""

DOUBTFUL = timedelta(milliseconds=200)
"""Between two looks at one that did not."""

DEADLINE = timedelta(seconds=1)
"""Of one look."""

GONE_AFTER = 3
"""Looks in a row that were not answered."""

BACK_AFTER = 3
"""Looks in a row that found it ready again."""


class Standby:
    """Watches one home, and serves its runs while nobody else does.

    Args:
        home: The region to stand in for.
        services: Makes the workers that poll the home's queue, one for each cell that both serve.
        taken_over: Set when it begins to stand in.

    Attributes:
        home: The region to stand in for.
    """

    def __init__(
        self,
        home: Region,
        services: Callable[[Region], Sequence[CellService]],
        taken_over: asyncio.Event,
    ) -> None:
        self.home = home
        self._services = services
        self._taken_over = taken_over
        self._serving: asyncio.Task[None] | None = None
        self._leaving = asyncio.Event()
        self._looks = 0
        """In a row that say otherwise than what is being done."""

    @property
    def stands_in(self) -> bool:
        """Whether it serves the home's runs now."""
        return self._serving is not None

    async def watch(self, stopping: asyncio.Event) -> None:
        """Watches until ``stopping`` is set, then lets go of what it serves."""
        async with httpx.AsyncClient(timeout=DEADLINE.total_seconds(), trust_env=False) as http:
            while not stopping.is_set():
                self._judge(await self._is_ready(http))
                pause = DOUBTFUL if self._looks and not self.stands_in else INTERVAL
                await within(pause, stopping)
        await self._leave()

    async def _is_ready(self, http: httpx.AsyncClient) -> bool:
        try:
            answer = await http.get(f"{self.home.control}/{'readyz' if self.stands_in else 'healthz'}")
        except httpx.HTTPError:
            return False
        return answer.status_code == 200

    def _judge(self, ready: bool) -> None:
        self._looks = self._looks + 1 if ready == self.stands_in else 0
        if not self.stands_in and self._looks >= GONE_AFTER:
            log.warning("home.taken_over", home=self.home.name)
            self._looks = 0
            self._leaving = asyncio.Event()
            self._serving = asyncio.create_task(self._serve(self._leaving))
            self._taken_over.set()
        elif self.stands_in and self._looks >= BACK_AFTER and not self._leaving.is_set():
            log.info("home.given_back", home=self.home.name)
            self._looks = 0
            self._leaving.set()

    async def _serve(self, leaving: asyncio.Event) -> None:
        warm = asyncio.Event()
        warm.set()
        try:
            await asyncio.gather(*(service.serve(leaving, warm) for service in self._services(self.home)))
        except Exception:
            # the region's own work goes on
            log.exception("home.not_served", home=self.home.name)
        finally:
            self._serving = None

    async def _leave(self) -> None:
        self._leaving.set()
        if self._serving is not None:
            await asyncio.gather(self._serving, return_exceptions=True)
