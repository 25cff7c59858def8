"""The five steps as an Edgeward agent and as a plain Temporal workflow with local activities."""

from datetime import timedelta

from temporalio import activity, workflow

from bench.peers_runners.protocol import STEPS
from orchestrator import Application, agent, call, step

TIMEOUT = timedelta(seconds=30)


@step(kind="code", dispatch="inline")
async def inline_step(number: int) -> int:
    return number + 1


@activity.defn
async def add_one(number: int) -> int:
    return number + 1


@agent(steps={inline_step: STEPS}, sandboxed=False)
class Inline:
    @workflow.run
    async def run(self, number: int) -> int:
        for _ in range(STEPS):
            number = await call(inline_step, number)
        return number


@workflow.defn(sandboxed=False)
class Local:
    @workflow.run
    async def run(self, number: int) -> int:
        for _ in range(STEPS):
            number = await workflow.execute_local_activity(add_one, number, start_to_close_timeout=TIMEOUT)
        return number


application = Application(agents=[Inline], steps=[inline_step])
