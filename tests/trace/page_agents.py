"""An agent whose run goes through three regions: steps, retries, parallel sub-agents and a wait."""

import asyncio
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from orchestrator import Application, Needs, agent, call, current_step, handoff, step

HOSTILE = "</script><img src=x onerror=window.broken=1>"
"""What a step may be called, and what its error may say."""


@step(dispatch="inline")
async def ask(pause_ms: int) -> int:
    await asyncio.sleep(pause_ms / 1000)
    return pause_ms


@step(needs=Needs(tool="archive"), dispatch="queue")
async def look_up(pause_ms: int) -> int:
    await asyncio.sleep(2 * pause_ms / 1000)
    return pause_ms


@step(
    needs=Needs(tool="press"),
    dispatch="queue",
    retry=RetryPolicy(initial_interval=timedelta(milliseconds=60), maximum_attempts=3),
)
async def stumble(pause_ms: int) -> int:
    current = current_step()
    assert current is not None
    if current.attempt < 2:
        raise RuntimeError("stumbled")
    await asyncio.sleep(pause_ms / 1000)
    return pause_ms


@step(name=HOSTILE, dispatch="queue", retry=RetryPolicy(maximum_attempts=1))
async def hostile(pause_ms: int) -> int:
    raise RuntimeError(HOSTILE)


@agent(steps={ask: 1, look_up: 1})
class Check:
    @workflow.run
    async def run(self, pause_ms: int) -> int:
        return await call(ask, pause_ms) + await call(look_up, pause_ms)


@agent(steps={ask: 2, look_up: 1, stumble: 1}, handoffs={Check: 2})
class Tour:
    @workflow.run
    async def run(self, pause_ms: int) -> int:
        total = await call(ask, pause_ms)
        total += await call(look_up, pause_ms)
        total += sum(await asyncio.gather(*(handoff(Check.run, pause_ms * (n + 1)) for n in range(2))))
        total += await call(stumble, pause_ms)
        return total + await call(ask, pause_ms)


@agent(steps={ask: 1})
class Patient:
    """Waits for a signal."""

    def __init__(self) -> None:
        self._ended = False

    @workflow.run
    async def run(self, pause_ms: int) -> int:
        await call(ask, pause_ms)
        await workflow.wait_condition(lambda: self._ended)
        return pause_ms

    @workflow.signal
    def end(self) -> None:
        self._ended = True


@agent(steps={hostile: 1})
class Hostile:
    @workflow.run
    async def run(self, pause_ms: int) -> int:
        return await call(hostile, pause_ms)


@agent(steps={ask: 1})
class Single:
    @workflow.run
    async def run(self, pause_ms: int) -> int:
        return await call(ask, pause_ms)


application = Application(
    agents=[Tour, Check, Patient, Hostile, Single], steps=[ask, look_up, stumble, hostile]
)
