"""The first build of an agent that waits for a signal between its steps."""

from temporalio import workflow

from orchestrator import Application, agent, call, step


@step(kind="code", dispatch="queue")
async def begin() -> str:
    return "a"


@step(kind="code", dispatch="queue")
async def finish(begun: str) -> str:
    return f"{begun} finished by a"


@agent(name="order", steps={begin: 1, finish: 1})
class Order:
    def __init__(self) -> None:
        self._released = False

    @workflow.run
    async def run(self) -> str:
        begun = await call(begin)
        await workflow.wait_condition(lambda: self._released)
        return await call(finish, begun)

    @workflow.signal
    def release(self) -> None:
        self._released = True


application = Application(agents=[Order], steps=[begin, finish])
