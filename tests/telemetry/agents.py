"""Agents whose traces have something to show. Each queued step has one place: a busy machine moves none."""

import asyncio
from datetime import timedelta
from pathlib import Path

import structlog
from temporalio import workflow
from temporalio.common import RetryPolicy

with workflow.unsafe.imports_passed_through():
    from orchestrator import Application, Needs, agent, call, current_step, handoff, step
    from orchestrator.backends import tool

log = structlog.get_logger(__name__)

SECRET = "the patient's name is Ada"


@step(dispatch="inline")
async def think(text: str) -> str:
    return text


@step(dispatch="queue", needs=Needs(tool="desk"))
async def look(text: str) -> str:
    log.info("looked")
    return text


@step(dispatch="queue", needs=Needs(tool="press"))
async def print_it(text: str) -> str:
    """In the other region."""
    return text


@step(dispatch="queue", needs=Needs(tool="press"))
async def wait_for(file: str) -> str:
    """In the other region, until a file is there."""
    Path(f"{file}.began").touch()
    while not await asyncio.to_thread(Path(file).exists):
        await asyncio.sleep(0.02)
    return file


@step(dispatch="queue", needs=Needs(tool="echo"))
async def ask(text: str) -> str:
    return (await tool("echo").call({"text": text})).text


@step(
    dispatch="queue",
    needs=Needs(tool="desk"),
    retry=RetryPolicy(initial_interval=timedelta(milliseconds=50), maximum_attempts=3),
)
async def stumble(text: str) -> str:
    current = current_step()
    assert current is not None
    if current.attempt < 2:
        raise RuntimeError(f"stumbled over {text}")
    return text


@step(dispatch="queue", needs=Needs(tool="desk"), retry=RetryPolicy(maximum_attempts=1))
async def fall(text: str) -> str:
    raise RuntimeError(f"fell over {text}")


@agent(steps={think: 5})
class Inline:
    @workflow.run
    async def run(self, text: str) -> str:
        for _ in range(5):
            text = await call(think, text)
        return text


@agent(steps={think: 2, look: 1, print_it: 1})
class Mixed:
    @workflow.run
    async def run(self, text: str) -> str:
        text = await call(think, text)
        text = await call(look, text)
        text = await call(print_it, text)
        return await call(think, text)


@agent(steps={think: 1}, handoffs={Mixed: 2})
class Pair:
    @workflow.run
    async def run(self, text: str) -> str:
        first, _ = await asyncio.gather(handoff(Mixed.run, text), handoff(Mixed.run, text))
        return await call(think, first)


@agent(steps={stumble: 1})
class Stumbling:
    @workflow.run
    async def run(self, text: str) -> str:
        return await call(stumble, text)


@agent(steps={think: 1, fall: 1})
class Falling:
    @workflow.run
    async def run(self, text: str) -> str:
        return await call(fall, await call(think, text))


@agent(steps={look: 2, wait_for: 1, think: 1})
class Long:
    """Most of it is waiting, in the other region."""

    @workflow.run
    async def run(self, file: str) -> str:
        await call(look, file)
        await call(wait_for, file)
        await call(look, file)
        return await call(think, file)


@agent(steps={ask: 1})
class Asking:
    @workflow.run
    async def run(self, text: str) -> str:
        return await call(ask, text)


@agent(steps={think: 1})
class Chain:
    """Goes on as new, twice."""

    @workflow.run
    async def run(self, left: str) -> str:
        await call(think, left)
        if int(left) > 0:
            workflow.continue_as_new(str(int(left) - 1))
        return left


application = Application(
    agents=[Inline, Mixed, Pair, Stumbling, Falling, Long, Asking, Chain],
    steps=[think, look, print_it, wait_for, ask, stumble, fall],
)
