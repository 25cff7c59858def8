"""What the tuning benchmark runs: a step that waits for its backend, and runs that outlive a worker."""

import asyncio
import os
import time
from datetime import timedelta

from temporalio import workflow

from bench.overhead_agents import Inline, Queued, inline_step, queued_step
from orchestrator import Application, agent, call, step

BACKEND_SLOTS = 8
BACKEND_MS = 1000

HANGS = "EDGEWARD_BENCH_STEP_HANGS"
"""Set for the worker that will be killed: its inline step never ends."""

_backend = asyncio.Semaphore(BACKEND_SLOTS)


@step(kind="model", dispatch="queue")
async def ask(number: int) -> float:
    """How long it took in milliseconds, with the wait for the backend, which serves eight at a time."""
    began = time.monotonic()
    async with _backend:
        await asyncio.sleep(BACKEND_MS / 1000)
    return (time.monotonic() - began) * 1000


@step(kind="code", dispatch="inline", timeout=timedelta(minutes=1))
async def outlive(number: int) -> int:
    if HANGS in os.environ:
        await asyncio.Event().wait()
    return number


@agent(steps={ask: 1}, sandboxed=False)
class Asking:
    @workflow.run
    async def run(self, number: int) -> float:
        return await call(ask, number)


@agent(steps={outlive: 1}, sandboxed=False)
class Busy:
    """Its worker is killed while it holds a workflow task."""

    @workflow.run
    async def run(self, number: int) -> int:
        return await call(outlive, number)


@agent(steps={}, sandboxed=False)
class Waiting:
    """Its worker is killed while it waits for a signal."""

    def __init__(self) -> None:
        self._told = False

    @workflow.run
    async def run(self, number: int) -> int:
        await workflow.wait_condition(lambda: self._told)
        return number

    @workflow.signal
    def tell(self) -> None:
        self._told = True


application = Application(
    agents=[Inline, Queued, Asking, Busy, Waiting], steps=[inline_step, queued_step, ask, outlive]
)
