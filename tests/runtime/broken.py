"""An agent that Temporal's sandbox refuses: its module draws a random number when it is loaded."""

import random

from temporalio import workflow

from orchestrator import Application, agent

LUCK = random.random()


@agent(steps={})
class Broken:
    @workflow.run
    async def run(self) -> float:
        return LUCK


application = Application(agents=[Broken])
