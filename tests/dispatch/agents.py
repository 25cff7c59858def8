"""Agents and steps that tell where they run."""

import asyncio
from datetime import timedelta

from pydantic import BaseModel
from temporalio import activity, workflow
from temporalio.common import RetryPolicy

from orchestrator import Application, Needs, agent, call, current_step, emit, handoff, placing, step
from orchestrator.errors import BackendFaultError, BackendRefusedError

ONCE = RetryPolicy(maximum_attempts=1)


class Seen(BaseModel):
    """What a step saw of itself."""

    region: str
    dispatch: str
    key: str


def seen() -> Seen:
    here = current_step()
    assert here is not None
    return Seen(region=here.region, dispatch=here.dispatch, key=here.idempotency_key)


@step(expected=timedelta(milliseconds=5))
async def think(word: str) -> Seen:
    emit(f"{word} ")
    return seen()


@step(needs=Needs(tool="press"), expected=timedelta(milliseconds=5))
async def press(word: str) -> Seen:
    emit(f"{word}!")
    return seen()


@step(repeatable=False, kind="code", expected=timedelta(milliseconds=5))
def pay(amount: int, currency: str = "EUR") -> Seen:
    emit(f"{amount} {currency} ")
    return seen()


@step(kind="code", retry=ONCE)
async def fail(final: bool) -> None:
    error = BackendRefusedError if final else BackendFaultError
    raise error("it is made to fail", endpoint="http://127.0.0.1:1/v1", region="frankfurt", status=500)


@step(kind="code")
async def echo(text: str) -> str:
    return text


@step(kind="code")
async def inflate(mebibytes: int) -> str:
    return "x" * mebibytes * 1024 * 1024


@step(expected=timedelta(milliseconds=5))
async def stumble() -> Seen:
    """Fails at its first attempt."""
    if activity.info().attempt == 1:
        raise RuntimeError("it stumbles once")
    return seen()


@agent(steps={stumble: 1, pay: 1})
class Stumbling:
    """An inline step that is tried again after a timer of the workflow, then a queued one."""

    @workflow.run
    async def run(self) -> list[Seen]:
        stumbled = await workflow.execute_local_activity(
            stumble,
            start_to_close_timeout=timedelta(seconds=10),
            retry_policy=RetryPolicy(initial_interval=timedelta(milliseconds=100)),
            local_retry_threshold=timedelta(milliseconds=10),
        )
        return [stumbled, await call(pay, 3)]


@agent(steps={think: 1, press: 1, pay: 1})
class Tour:
    """An inline step, one that only another region can do, one that must not run twice."""

    @workflow.run
    async def run(self, word: str) -> list[Seen]:
        return [await call(think, word), await call(press, word), await call(pay, 3, currency="CHF")]


@agent(steps={think: 1})
class Narrowed:
    """Narrows the residency of a block to what it is given."""

    @workflow.run
    async def run(self, residency: str) -> list[Seen]:
        before = await call(think, "before")
        with placing(residency=residency):
            inside = await call(think, "inside")
        return [before, inside]


@agent(steps={think: 1})
class Voice:
    """A sub-agent."""

    @workflow.run
    async def run(self, word: str) -> Seen:
        return await call(think, word)


@agent(steps={press: 5, think: 1})
class Printer:
    """A sub-agent that is drawn to where the press is."""

    @workflow.run
    async def run(self, word: str) -> list[Seen]:
        return [await call(think, word), await call(press, word)]


@agent(steps={think: 1}, handoffs={Voice: 1, Printer: 1})
class Choir:
    """Two sub-agents at once."""

    @workflow.run
    async def run(self, word: str) -> list[Seen]:
        voice, printed = await asyncio.gather(handoff(Voice.run, word), handoff(Printer.run, word))
        return [await call(think, word), voice, *printed]


@agent(steps={think: 1}, handoffs={Printer: 1})
class NarrowedHandoff:
    """Narrows the residency of a sub-agent."""

    @workflow.run
    async def run(self, residency: str) -> list[Seen]:
        with placing(residency=residency):
            return await handoff(Printer.run, "inside")


@agent(steps={fail: 1})
class Failing:
    @workflow.run
    async def run(self, final: bool) -> None:
        await call(fail, final)


@agent(steps={think: 1})
class AuthorsQueue:
    """The author names the queue of a step; that stays."""

    @workflow.run
    async def run(self, queue: str) -> Seen:
        return await workflow.execute_activity(
            think, "there", task_queue=queue, start_to_close_timeout=timedelta(seconds=10)
        )


@agent(steps={inflate: 1, echo: 1})
class Large:
    @workflow.run
    async def run(self, where: str) -> int:
        if where == "result":
            return len(await call(inflate, 3))
        halves = [await call(inflate, 1), await call(inflate, 1)]
        return len(await call(echo, "".join(halves)))


@agent(steps={})
class Returning:
    """Returns so many characters."""

    @workflow.run
    async def run(self, size: int) -> str:
        return "x" * size


@agent(steps={})
class Again:
    """Goes on as a new run so many times."""

    @workflow.run
    async def run(self, times: int) -> str:
        if times:
            workflow.continue_as_new(times - 1)
        return "done"


@agent(steps={})
class Patient:
    """Waits until it is told to finish."""

    def __init__(self) -> None:
        self._finished = False

    @workflow.run
    async def run(self) -> str:
        await workflow.wait_condition(lambda: self._finished)
        return "finished"

    @workflow.update
    async def begun(self) -> None:
        """Answers once the run is there."""

    @workflow.signal
    def finish(self) -> None:
        self._finished = True


application = Application(
    agents=[
        *(Tour, Narrowed, NarrowedHandoff, Voice, Printer, Choir, Failing, AuthorsQueue, Large),
        *(Returning, Again, Patient, Stumbling),
    ],
    steps=[think, press, pay, fail, echo, inflate, stumble],
)
