"""Agents that use up what they are given, and steps that count how often they ran."""

import asyncio
import contextlib
import time
from collections import Counter, defaultdict
from datetime import timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError, FailureError

from orchestrator import Application, Budget, Needs, agent, call, current_step, handoff, step

ran: Counter[str] = Counter()
"""How often steps ran, by their run's first workflow id."""

attempts: dict[str, list[tuple[int, str]]] = {}
"""Attempt and key of each time that the step which fails ran, by workflow id."""

generated: Counter[str] = Counter()
"""Tokens that a model would have been asked for, by the same."""

ended: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""Set when the step that never ends was cancelled, by workflow id."""

turns: list[str] = []
"""Tenants in the order in which their steps ran."""

gate = asyncio.Event()
"""Set when these may run."""

QUICK = RetryPolicy(initial_interval=timedelta(milliseconds=10), maximum_attempts=4)


def root_of(workflow_id: str) -> str:
    return workflow_id.partition("/")[0]


def note() -> None:
    here = current_step()
    assert here is not None
    ran[root_of(here.workflow_id)] += 1


@step(expected=timedelta(milliseconds=5))
async def use() -> str:
    note()
    here = current_step()
    assert here is not None
    return here.dispatch


@step(needs=Needs(tool="press"), expected=timedelta(milliseconds=5))
async def buy() -> str:
    note()
    here = current_step()
    assert here is not None
    return here.dispatch


@step(tokens=100, expected=timedelta(milliseconds=5))
async def say(wanted: int) -> int:
    """Takes what a call to a model takes."""
    note()
    here = current_step()
    assert here is not None and here.tokens is not None
    taken = here.tokens.take(here.step, wanted)
    generated[root_of(here.workflow_id)] += taken
    return taken


@step(expected=timedelta(milliseconds=5))
async def say_undeclared() -> int | None:
    here = current_step()
    assert here is not None
    return None if here.tokens is None else here.tokens.take(here.step, 1)


@step(expected=timedelta(milliseconds=5), retry=QUICK)
async def fail() -> None:
    note()
    here = current_step()
    assert here is not None
    attempts.setdefault(here.workflow_id, []).append((here.attempt, here.idempotency_key))
    raise RuntimeError("it is made to fail")


@step(expected=timedelta(milliseconds=5), dispatch="queue")
async def never() -> None:
    here = current_step()
    assert here is not None
    try:
        await asyncio.Event().wait()
    finally:
        ended[here.workflow_id].set()


@step(expected=timedelta(milliseconds=5), timeout=timedelta(seconds=50))
async def time_left() -> float:
    here = current_step()
    assert here is not None and here.ends_at is not None
    return here.ends_at - time.monotonic()


def reason(error: FailureError) -> str:
    """The type of the error that a call ended with."""
    cause = error.cause if isinstance(error, ActivityError) else error
    return cause.type or "" if isinstance(cause, ApplicationError) else type(cause).__name__


async def until_refused(most: int) -> int:
    for done in range(most):
        try:
            await call(use)
        except ApplicationError as error:
            assert error.type == "BudgetExceededError", error
            return done
    return most


@agent(steps={use: 1}, budget=Budget(steps=10))
class Frugal:
    """Uses steps until it is refused one, or until it has had enough of them."""

    @workflow.run
    async def run(self, most: int) -> int:
        return await until_refused(most)


@agent(steps={use: 1})
class Greedy:
    """Uses steps until it is refused one."""

    @workflow.run
    async def run(self, most: int) -> int:
        return await until_refused(most)


@agent(steps={use: 1}, handoffs={Frugal: 1, Greedy: 2})
class Boss:
    """Hands off to three at once, and uses what is left."""

    @workflow.run
    async def run(self) -> list[int]:
        run = workflow.info().workflow_id
        below = [
            handoff(Frugal.run, 50, id=f"{run}/frugal"),
            handoff(Greedy.run, 50, id=f"{run}/greedy"),
            handoff(Greedy.run, 50, id=f"{run}/greedier"),
        ]
        used = await asyncio.gather(*below, return_exceptions=True)
        counted = [0 if isinstance(each, BaseException) else each for each in used]
        return [*counted, await until_refused(50)]


@agent(steps={use: 1})
class Plain:
    """Has no budget of its own."""

    @workflow.run
    async def run(self) -> list[str]:
        return [await call(use), await call(use)]


@agent(steps={buy: 1})
class Buyer:
    @workflow.run
    async def run(self, times: int) -> list[str]:
        return [await call(buy) for _ in range(times)]


@agent(steps={say: 1})
class Speaker:
    """Lets a model generate in so many calls side by side."""

    @workflow.run
    async def run(self, calls: int) -> list[int | str]:
        return list(await asyncio.gather(*(self._say() for _ in range(calls))))

    async def _say(self) -> int | str:
        try:
            return await call(say, 200)
        except FailureError as error:
            return reason(error)


@agent(steps={say_undeclared: 1})
class Secretive:
    @workflow.run
    async def run(self) -> int | None:
        return await call(say_undeclared)


@agent(steps={fail: 1})
class Stubborn:
    """Calls a step that fails."""

    @workflow.run
    async def run(self) -> None:
        await call(fail)


@agent(steps={use: 1})
class Endless:
    """Goes on as a new run after each step."""

    @workflow.run
    async def run(self, done: int) -> int:
        if not await until_refused(1):
            return done
        workflow.continue_as_new(done + 1)


@agent(steps={never: 1}, deadline=timedelta(seconds=1))
class Late:
    """Waits for a step that does not end."""

    @workflow.run
    async def run(self) -> None:
        await call(never)


@agent(steps={})
class Asleep:
    @workflow.run
    async def run(self) -> None:
        await workflow.sleep(timedelta(days=1))


@agent(steps={use: 1, never: 1})
class Deaf:
    """Does not heed its deadline: calls the next step after it."""

    @workflow.run
    async def run(self) -> str:
        with contextlib.suppress(FailureError):
            await call(never)
        return await call(use)


@step(needs=Needs(tool="press"), dispatch="queue", timeout=timedelta(seconds=50))
async def queued_time_left() -> float:
    here = current_step()
    assert here is not None and here.ends_at is not None
    return here.ends_at - time.monotonic()


@agent(steps={time_left: 1, queued_time_left: 1})
class Timed:
    """What an inline and a queued step have left."""

    @workflow.run
    async def run(self) -> list[float]:
        return [await call(time_left), await call(queued_time_left)]


@agent(steps={}, handoffs={Timed: 1})
class TimedAbove:
    """What a sub-agent's have."""

    @workflow.run
    async def run(self) -> list[float]:
        return await handoff(Timed.run)


@step(needs=Needs(tool="press"), dispatch="queue")
async def served(tenant: str) -> None:
    """Tells its tenant, one at a time: the press has one slot."""
    await gate.wait()
    turns.append(tenant)


@agent(steps={served: 1})
class Work:
    """So many steps at once, by a sub-agent."""

    @workflow.run
    async def run(self, job: tuple[str, int]) -> None:
        tenant, steps = job
        await asyncio.gather(*(call(served, tenant) for _ in range(steps)))


@agent(steps={}, handoffs={Work: 1})
class WorkFor:
    @workflow.run
    async def run(self, job: tuple[str, int]) -> None:
        await handoff(Work.run, job)


application = Application(
    agents=[
        *(Frugal, Greedy, Boss, Plain, Buyer, Speaker, Secretive, Stubborn, Endless),
        *(Late, Asleep, Deaf, Timed, TimedAbove, Work, WorkFor),
    ],
    steps=[use, buy, say, say_undeclared, fail, never, time_left, queued_time_left, served],
)
