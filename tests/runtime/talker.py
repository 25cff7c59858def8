"""An agent that says which processes its steps run in, until a test has heard enough."""

import asyncio
import os
from pathlib import Path

from temporalio import workflow

from orchestrator import Application, agent, call, emit, step

AT_ONCE = 4


@step(kind="code", dispatch="queue")
async def tell(gate: str) -> bool:
    emit(str(os.getpid()))
    return await asyncio.to_thread(Path(gate).exists)


@agent(steps={tell: AT_ONCE})
class Talker:
    @workflow.run
    async def run(self, gate: str) -> int:
        told = 0
        while True:
            open_gates = await asyncio.gather(*(call(tell, gate) for _ in range(AT_ONCE)))
            told += AT_ONCE
            if all(open_gates):
                return told


application = Application(agents=[Talker], steps=[tell])
