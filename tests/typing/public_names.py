"""What pyright makes of the public names. ``make check`` reads this file; nothing runs it.

A wrong call carries an ignore: if it became right, the ignore itself would be an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_type

from temporalio import workflow

from orchestrator import EdgeClient, EdgeRun, Needs, Residency, agent, call, handoff, placing, step
from orchestrator.placement import Plan


@dataclass
class Question:
    text: str


@dataclass
class Answer:
    text: str


@step(needs=Needs(collection="handbook"), timeout=timedelta(seconds=2))
async def retrieve(question: str, k: int = 5) -> list[str]:
    return [question] * k


@step()
def count(words: list[str]) -> int:
    return len(words)


@agent(residency="EU")
class Summarise:
    @workflow.run
    async def run(self, words: list[str]) -> str:
        assert_type(await call(count, words), int)
        return ""


@agent(steps={retrieve: 1, count: 1}, handoffs={Summarise: 1})
class Research:
    @workflow.run
    async def run(self, question: Question) -> Answer:
        assert_type(await call(retrieve, question.text), list[str])
        assert_type(await call(retrieve, question.text, k=3), list[str])
        with placing(residency=["DE", "FR"], needs=Needs(model="chat")) as block:
            assert_type(block, None)
            words = await call(retrieve, question.text)
        with placing(residency=Residency.of("EU")):
            assert_type(await handoff(Summarise.run, words), str)
        await call(retrieve, 3)  # pyright: ignore[reportCallIssue, reportArgumentType] -- a text is wanted
        await call(retrieve)  # pyright: ignore[reportCallIssue] -- the question is missing
        await handoff(Summarise.run, 3)  # pyright: ignore[reportArgumentType] -- a list is wanted
        return Answer("")


@agent()
class Greet:
    @workflow.run
    async def run(self) -> str:
        return "hello"


async def decorators_return_what_they_were_given() -> None:
    assert_type(await retrieve("where", k=2), list[str])
    assert_type(count(["a"]), int)
    assert_type(Research, type[Research])
    assert_type(Research(), Research)
    assert_type(await Research.run(Research(), Question("why")), Answer)
    step_function: Callable[[str, int], Awaitable[list[str]]] = retrieve
    run_method: Callable[[Research, Question], Awaitable[Answer]] = Research.run
    await retrieve(3)  # pyright: ignore[reportArgumentType] -- a text is wanted
    del step_function, run_method


async def a_client(client: EdgeClient) -> None:
    run = await client.start(Research.run, Question("why"), origin="Lisbon", residency="EU")
    assert_type(run, EdgeRun[Answer])
    assert_type(await run.result(), Answer)
    assert_type(run.plan, Plan)
    assert_type(run.plan.home, str)
    assert_type(await (await client.start(Greet.run, origin="PT")).result(), str)
    await client.start(Research.run, "why", origin="PT")  # pyright: ignore[reportArgumentType] -- a Question is wanted
    await client.start(Research.run, Question("why"))  # pyright: ignore[reportCallIssue] -- the origin is missing
