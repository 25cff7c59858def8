"""An inline step that leaves its home when the home is slow.

While an inline step runs, its run cannot dispatch anything, so there is no second dispatch beside it.
It is given up instead, here where it runs, and its run queues it in its next place. That it was given
up is in the history as its failure, so a replay takes the same way.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import NoReturn

import structlog
from temporalio.exceptions import ApplicationError

from orchestrator.dispatch.failures import SET_ASIDE, TAKES_LONG
from orchestrator.dispatch.site import Site
from orchestrator.dispatch.steps.hedging import LATE, SIGHTING, may_leave
from orchestrator.errors import Recovery

log = structlog.get_logger(__name__)


@asynccontextmanager
async def leaving_if_slow(
    step: str, site: Site, *, after: timedelta, others: Sequence[str], predicted: timedelta
) -> AsyncGenerator[None]:
    """Around the body of an inline step that has another place to go to.

    Args:
        step: Its name.
        site: Where it runs.
        after: When it takes unusually long.
        others: The regions that it could go to.
        predicted: What it should take.

    Raises:
        ApplicationError: It is not begun, or is given up: its run goes on to the next place.
    """
    region, health = site.region.name, site.health
    if not health.takes(region, others):
        _leave(step, region, SET_ASIDE, "was not begun in {}: the region is set aside")
    began_s = time.monotonic()
    limit = asyncio.timeout(None)
    patience = _Patience(after, limit, site, others)
    try:
        async with limit:
            try:
                yield
            finally:
                patience.end()
    except TimeoutError:
        if not limit.expired():
            raise  # the step's own
        if patience.asked < SIGHTING:
            health.failed(region, LATE, surely=False)
        _leave(step, region, TAKES_LONG, "was given up in {}: it took unusually long")
    health.succeeded(region, timedelta(seconds=time.monotonic() - began_s), predicted)


class _Patience:
    """Asks whether a step may leave, once it takes unusually long; then less and less often."""

    def __init__(self, after: timedelta, limit: asyncio.Timeout, site: Site, others: Sequence[str]) -> None:
        self._after_s = after.total_seconds()
        self._limit = limit
        self._site = site
        self._others = others
        self.asked = 0
        self._loop = asyncio.get_running_loop()
        self._question = self._loop.call_later(self._after_s, self._ask)

    def end(self) -> None:
        """The step has ended."""
        self._question.cancel()

    def _ask(self) -> None:
        self.asked += 1
        region, health = self._site.region.name, self._site.health
        if may_leave(region, self._others, health, question=self.asked):
            self._limit.reschedule(self._loop.time())
            return
        self._after_s *= 2
        self._question = self._loop.call_later(self._after_s, self._ask)


def _leave(step: str, region: str, type: str, what: str) -> NoReturn:
    log.info("step.leaves", step=step, region=region, reason=type)
    message = f"step {step} {what.format(region)}"
    details = {"recovery": Recovery.ELSEWHERE.value}
    raise ApplicationError(message, details, type=type, non_retryable=True)
