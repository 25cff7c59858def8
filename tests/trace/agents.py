"""Agents whose waterfalls have something to show: queueing, retries, parallel sub-agents, a failure."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from orchestrator import Application, Needs, agent, call, current_step, handoff, step


@step(dispatch="inline")
async def think(pause_ms: int) -> int:
    await asyncio.sleep(pause_ms / 1000)
    return pause_ms


@step(needs=Needs(tool="press"), dispatch="queue")
async def press(pause_ms: int) -> int:
    """The only slot of the region's press makes others wait."""
    await asyncio.sleep(pause_ms / 1000)
    return pause_ms


@step(
    dispatch="queue",
    retry=RetryPolicy(initial_interval=timedelta(milliseconds=100), maximum_attempts=3),
)
async def stumble(pause_ms: int) -> int:
    current = current_step()
    assert current is not None
    if current.attempt < 2:
        raise RuntimeError("stumbled")
    return pause_ms


@step(dispatch="queue", retry=RetryPolicy(maximum_attempts=1))
async def fall(pause_ms: int) -> int:
    raise RuntimeError("fell")


@agent(steps={think: 2, press: 1})
class Mixed:
    @workflow.run
    async def run(self, pause_ms: int) -> int:
        total = await call(think, pause_ms)
        total += await call(press, pause_ms)
        return total + await call(think, pause_ms)


@agent(steps={press: 3})
class Crowd:
    """Three at once for one slot."""

    @workflow.run
    async def run(self, pause_ms: int) -> int:
        return sum(await asyncio.gather(*(call(press, pause_ms) for _ in range(3))))


@agent(steps={think: 1, press: 1}, handoffs={Mixed: 2})
class Pair:
    @workflow.run
    async def run(self, pause_ms: int) -> int:
        first, second = await asyncio.gather(handoff(Mixed.run, pause_ms), handoff(Mixed.run, 2 * pause_ms))
        return first + second + await call(think, pause_ms)


@agent(steps={stumble: 1})
class Stumbling:
    @workflow.run
    async def run(self, pause_ms: int) -> int:
        return await call(stumble, pause_ms)


@agent(steps={think: 1, fall: 1})
class Falling:
    @workflow.run
    async def run(self, pause_ms: int) -> int:
        return await call(think, pause_ms) + await call(fall, pause_ms)


@agent(steps={think: 1})
class Waiting:
    """Waits for a signal that tells it to end."""

    def __init__(self) -> None:
        self._ended = False

    @workflow.run
    async def run(self, pause_ms: int) -> int:
        await call(think, pause_ms)
        await workflow.wait_condition(lambda: self._ended)
        return pause_ms

    @workflow.signal
    def end(self) -> None:
        self._ended = True


application = Application(
    agents=[Mixed, Crowd, Pair, Stumbling, Falling, Waiting], steps=[think, press, stumble, fall]
)
