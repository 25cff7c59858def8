"""An agent whose step waits for a file, so that a test decides when it ends."""

import asyncio
from pathlib import Path

from temporalio import workflow

from orchestrator import Application, agent, call, emit, step


@step(kind="code", dispatch="queue")
async def wait_for(file: str) -> str:
    emit("started")
    while not await asyncio.to_thread(Path(file).exists):
        await asyncio.sleep(0.01)
    return "done"


@agent(steps={wait_for: 1})
class Slow:
    @workflow.run
    async def run(self, file: str) -> str:
        return await call(wait_for, file)


application = Application(agents=[Slow], steps=[wait_for])
