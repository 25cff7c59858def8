"""The same chain of no-op steps, as an Edgeward agent and as a plain Temporal workflow."""

from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from orchestrator import Application, agent, call, step

TIMEOUT = timedelta(seconds=30)


@step(kind="code", dispatch="inline")
async def inline_step(number: int) -> int:
    return number


@step(kind="code", dispatch="queue")
async def queued_step(number: int) -> int:
    return number


@activity.defn
async def plain_step(number: int) -> int:
    return number


@agent(steps={inline_step: 5}, sandboxed=False)
class Inline:
    @workflow.run
    async def run(self, steps: int) -> int:
        for number in range(steps):
            await call(inline_step, number)
        return steps


@agent(steps={queued_step: 5}, sandboxed=False)
class Queued:
    @workflow.run
    async def run(self, steps: int) -> int:
        for number in range(steps):
            await call(queued_step, number)
        return steps


@workflow.defn(sandboxed=False)
class PlainLocal:
    @workflow.run
    async def run(self, steps: int) -> int:
        for number in range(steps):
            await workflow.execute_local_activity(plain_step, number, start_to_close_timeout=TIMEOUT)
        return steps


@workflow.defn(sandboxed=False)
class PlainQueued:
    @workflow.run
    async def run(self, steps: int) -> int:
        for number in range(steps):
            # a queue of its own, as a step that is placed has one
            await workflow.execute_activity(
                plain_step, number, task_queue="plain.code", start_to_close_timeout=TIMEOUT
            )
        return steps


application = Application(agents=[Inline, Queued], steps=[inline_step, queued_step])
