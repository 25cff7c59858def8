"""Agents whose steps have to go to another place, and what keeps the places from doing them."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

from orchestrator import Application, Needs, agent, call, current_step, placing, step
from orchestrator.errors import BackendUnreachableError
from tests.dispatch.agents import Seen, seen

broken: set[str] = set()
"""Regions whose endpoint refuses connections."""

tried: dict[str, list[str]] = {}
"""Regions that ran a step, by its idempotency key."""

mended = asyncio.Event()
"""Set when no region is broken any more."""


@step(needs=Needs(tool="press"), expected=timedelta(milliseconds=5))
async def deliver(word: str) -> Seen:
    here = current_step()
    assert here is not None
    tried.setdefault(here.idempotency_key, []).append(here.region)
    if here.region in broken:
        raise BackendUnreachableError(
            "connection refused", endpoint="http://127.0.0.1:1/press", region=here.region
        )
    return seen()


@step(needs=Needs(tool="press"), repeatable=False, timeout=timedelta(seconds=3))
async def charge(word: str) -> Seen:
    return seen()


@step(needs=Needs(tool="press"), expected=timedelta(milliseconds=5), timeout=timedelta(seconds=60))
async def endure(word: str) -> Seen:
    """Runs until it is cancelled."""
    started.set()
    await asyncio.Event().wait()
    return seen()


@step(needs=Needs(tool="press"), expected=timedelta(milliseconds=5), timeout=timedelta(seconds=60))
async def crawl(word: str) -> Seen:
    """Takes for ever in the regions that are slow."""
    return await unless_slow()


@step(
    needs=Needs(tool="press"),
    dispatch="inline",
    expected=timedelta(milliseconds=5),
    timeout=timedelta(seconds=60),
)
async def browse(word: str) -> Seen:
    """The same, inline at home."""
    return await unless_slow()


async def unless_slow() -> Seen:
    here = current_step()
    assert here is not None
    begun.append(here.region)
    if here.region in slow:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise
    return seen()


begun: list[str] = []
"""Regions in which ``crawl`` or ``browse`` began."""

slow: set[str] = set()
"""Regions in which these do not end."""

cancelled = asyncio.Event()
"""Set when one of them was told to end."""

started = asyncio.Event()
"""Set when ``endure`` runs."""


@step(needs=Needs(tool="desk"), expected=timedelta(milliseconds=5))
async def sit() -> None:
    """Keeps the home of an agent where the desk is."""


@agent(steps={deliver: 1, sit: 9})
class Settled:
    @workflow.run
    async def run(self, word: str) -> list[Seen]:
        return [await call(deliver, word), await call(deliver, word)]


@agent(steps={crawl: 1, sit: 9})
class Crawling:
    @workflow.run
    async def run(self, word: str) -> Seen:
        return await call(crawl, word)


@agent(steps={browse: 1})
class Browsing:
    @workflow.run
    async def run(self, word: str) -> Seen:
        return await call(browse, word)


@agent(steps={browse: 1})
class Bounded:
    """Says how often its step may begin."""

    @workflow.run
    async def run(self, attempts: int) -> Seen:
        return await workflow.execute_activity(
            browse,
            "word",
            start_to_close_timeout=timedelta(seconds=60),
            retry_policy=RetryPolicy(maximum_attempts=attempts),
        )


@agent(steps={deliver: 1})
class Wanderer:
    @workflow.run
    async def run(self, word: str) -> list[Seen]:
        return [await call(deliver, word), await call(deliver, word)]


@agent(steps={deliver: 1}, residency="EU")
class European:
    @workflow.run
    async def run(self, word: str) -> Seen:
        return await call(deliver, word)


@agent(steps={deliver: 1})
class Blocked:
    """Narrows the residency of its step."""

    @workflow.run
    async def run(self, word: str) -> Seen:
        with placing(residency="EU"):
            return await call(deliver, word)


@agent(steps={deliver: 1}, without_place="fail")
class Impatient:
    @workflow.run
    async def run(self, word: str) -> Seen:
        return await call(deliver, word)


@agent(steps={charge: 1, sit: 9})
class Charging:
    @workflow.run
    async def run(self, word: str) -> Seen:
        return await call(charge, word)


@agent(steps={deliver: 1})
class Ordinary:
    """Calls its step as any Temporal workflow does, with a policy and a deadline of its own."""

    @workflow.run
    async def run(self, word: str) -> Seen:
        return await workflow.execute_activity(
            deliver,
            word,
            schedule_to_close_timeout=timedelta(seconds=20),
            retry_policy=RetryPolicy(maximum_attempts=2),
        )


@agent(steps={endure: 1})
class Cancelling:
    """Cancels its step: before it has begun, or once it runs."""

    @workflow.run
    async def run(self, when: str) -> str:
        enduring = asyncio.ensure_future(call(endure, "long"))
        if when == "running":
            await workflow.wait_condition(lambda: self._told)
        else:
            await asyncio.sleep(0)
        enduring.cancel()
        try:
            await enduring
        except (asyncio.CancelledError, Exception) as error:
            return type(error).__name__
        return "it returned"

    def __init__(self) -> None:
        self._told = False

    @workflow.signal
    def cancel_it(self) -> None:
        self._told = True


application = Application(
    agents=[
        Settled,
        Crawling,
        Browsing,
        Bounded,
        Wanderer,
        European,
        Blocked,
        Impatient,
        Charging,
        Ordinary,
        Cancelling,
    ],
    steps=[deliver, charge, endure, sit, crawl, browse],
)
