"""Agents whose steps have effects that are counted by their keys, and wait where a test wants them to."""

import asyncio
from collections import Counter
from datetime import timedelta

from temporalio import workflow

from orchestrator import Application, agent, call, current_step, handoff, step

effects: dict[str, Counter[str]] = {}
"""Order → key of an effect → how often it was asked for."""

arrived: dict[str, int] = {}
"""Order → how often a run of it has come to its gate."""

gates: dict[str, asyncio.Event] = {}
"""Order → what lets its runs go on."""


def gate(order: str) -> asyncio.Event:
    return gates.setdefault(order, asyncio.Event())


@step(kind="code", dispatch="queue", expected=timedelta(milliseconds=5))
async def book(order: str, what: str) -> str:
    here = current_step()
    assert here is not None
    effects.setdefault(order, Counter())[here.idempotency_key] += 1
    return f"{what} for {order}"


@step(kind="code", dispatch="queue", timeout=timedelta(minutes=2), expected=timedelta(milliseconds=5))
async def wait_at_gate(order: str) -> None:
    arrived[order] = arrived.get(order, 0) + 1
    await gate(order).wait()


@agent(steps={book: 1}, sandboxed=False)
class Clerk:
    @workflow.run
    async def run(self, order: str) -> str:
        return await call(book, order, "paper")


async def errand(order: str) -> list[str]:
    booked = await asyncio.gather(call(book, order, "bread"), call(book, order, "milk"))
    paper = await handoff(Clerk.run, order)
    await call(wait_at_gate, order)
    again = [await call(book, order, "bread") for _ in range(2)]
    return [*booked, paper, *again]


@agent(steps={book: 4, wait_at_gate: 1}, handoffs={Clerk: 1}, on_cell_loss="restart", sandboxed=False)
class Errand:
    @workflow.run
    async def run(self, order: str) -> list[str]:
        return await errand(order)


@agent(steps={book: 4, wait_at_gate: 1}, handoffs={Clerk: 1}, sandboxed=False)
class Patient:
    """The same, and its runs wait for their cell."""

    @workflow.run
    async def run(self, order: str) -> list[str]:
        return await errand(order)


EFFECTS = 5
"""Of a run: two of them are the same call once more."""

application = Application(agents=[Errand, Patient, Clerk], steps=[book, wait_at_gate])


def answer(order: str) -> list[str]:
    return [f"{what} for {order}" for what in ("bread", "milk", "paper", "bread", "bread")]
