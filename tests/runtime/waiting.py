"""An agent that waits to be told, and then says where it runs."""

from datetime import timedelta

from temporalio import workflow

from orchestrator import Application, agent, call, current_step, placing, step
from orchestrator.backends import model
from orchestrator.requirements import Needs


@step(expected=timedelta(milliseconds=5))
async def where() -> str:
    here = current_step()
    assert here is not None
    return f"{here.region} {here.dispatch}"


@step(needs=Needs(model="chat"), expected=timedelta(milliseconds=5))
async def ask() -> str:
    """Needs what only some regions offer."""
    here = current_step()
    assert here is not None
    assert model("chat") is not None
    return f"{here.region} {here.dispatch}"


@agent(steps={where: 5, ask: 1})
class Waiting:
    def __init__(self) -> None:
        self._told = False

    @workflow.run
    async def run(self, block: str) -> list[str]:
        await call(where)
        await workflow.wait_condition(lambda: self._told)
        if block:
            with placing(residency=block):
                return [await call(where)]
        return [await call(where), await call(ask)]

    @workflow.signal
    def go_on(self) -> None:
        self._told = True

    @workflow.query
    def begun(self) -> bool:
        return True


@agent(steps={where: 1})
class Staying:
    """The same without what only some regions offer."""

    def __init__(self) -> None:
        self._told = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self._told)
        return await call(where)

    @workflow.signal
    def go_on(self) -> None:
        self._told = True

    @workflow.query
    def begun(self) -> bool:
        return True


undemanding = Application(agents=[Staying], steps=[where])
application = Application(agents=[Waiting], steps=[where, ask])
