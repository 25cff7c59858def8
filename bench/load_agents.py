"""A run of five no-op steps that is parked after the second, as Edgeward agent and as plain workflow.

What a run gets is a number, each step adds one, and the run returns the number plus five: so the bench
sees at once an answer that lacks a step or belongs to another run.
"""

from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    from orchestrator import Application, agent, call, step

BEFORE, AFTER = 2, 3
"""Steps before the run waits to be resumed, and after."""

STEPS = BEFORE + AFTER

TIMEOUT = timedelta(seconds=30)


@step(kind="code", dispatch="inline")
async def inline_step(number: int) -> int:
    return number + 1


@step(kind="code", dispatch="queue")
async def queued_step(number: int) -> int:
    return number + 1


@activity.defn
async def plain_step(number: int) -> int:
    return number + 1


@agent(name="inline", steps={inline_step: STEPS}, sandboxed=False)
class Inline:
    def __init__(self) -> None:
        self._resumed = False

    @workflow.run
    async def run(self, number: int) -> int:
        for _ in range(BEFORE):
            number = await call(inline_step, number)
        await workflow.wait_condition(lambda: self._resumed)
        for _ in range(AFTER):
            number = await call(inline_step, number)
        return number

    @workflow.signal
    def resume(self) -> None:
        self._resumed = True


@agent(name="queued", steps={queued_step: STEPS}, sandboxed=False)
class Queued:
    def __init__(self) -> None:
        self._resumed = False

    @workflow.run
    async def run(self, number: int) -> int:
        for _ in range(BEFORE):
            number = await call(queued_step, number)
        await workflow.wait_condition(lambda: self._resumed)
        for _ in range(AFTER):
            number = await call(queued_step, number)
        return number

    @workflow.signal
    def resume(self) -> None:
        self._resumed = True


@workflow.defn(sandboxed=False)
class PlainInline:
    def __init__(self) -> None:
        self._resumed = False

    @workflow.run
    async def run(self, number: int) -> int:
        for _ in range(BEFORE):
            number = await _local(number)
        await workflow.wait_condition(lambda: self._resumed)
        for _ in range(AFTER):
            number = await _local(number)
        return number

    @workflow.signal
    def resume(self) -> None:
        self._resumed = True


@workflow.defn(sandboxed=False)
class PlainQueued:
    def __init__(self) -> None:
        self._resumed = False

    @workflow.run
    async def run(self, number: int) -> int:
        for _ in range(BEFORE):
            number = await _from_queue(number)
        await workflow.wait_condition(lambda: self._resumed)
        for _ in range(AFTER):
            number = await _from_queue(number)
        return number

    @workflow.signal
    def resume(self) -> None:
        self._resumed = True


async def _local(number: int) -> int:
    return await workflow.execute_local_activity(plain_step, number, start_to_close_timeout=TIMEOUT)


async def _from_queue(number: int) -> int:
    # a queue of its own, as a step that is placed has one
    return await workflow.execute_activity(
        plain_step, number, task_queue=PLAIN_STEPS, start_to_close_timeout=TIMEOUT
    )


PLAIN_AGENTS = "plain.agents"
PLAIN_STEPS = "plain.code"

application = Application(agents=[Inline, Queued], steps=[inline_step, queued_step])
