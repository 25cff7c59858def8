"""The next build of the same agent: it cannot go on with a history of the first."""

from datetime import timedelta

from temporalio import workflow

from orchestrator import Application, agent, call, step


@step(kind="code", dispatch="queue")
async def prepare() -> str:
    return "b"


@step(kind="code", dispatch="queue")
async def finish(begun: str) -> str:
    return f"{begun} finished by b"


@agent(name="order", steps={prepare: 1, finish: 1})
class Order:
    def __init__(self) -> None:
        self._released = False

    @workflow.run
    async def run(self) -> str:
        await workflow.sleep(timedelta(milliseconds=1))
        begun = await call(prepare)
        await workflow.wait_condition(lambda: self._released)
        return await call(finish, begun)

    @workflow.signal
    def release(self) -> None:
        self._released = True


application = Application(agents=[Order], steps=[prepare, finish])
