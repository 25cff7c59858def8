"""The same five steps as plain Temporal workflows and as an Edgeward agent."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict
from temporalio import activity, workflow

from orchestrator.agents import agent, step
from orchestrator.application import Application
from orchestrator.calls import call

STEPS = ("retrieve", "model", "tool", "model", "tool")
"""What the agent does, in this order; each step needs the answer of the one before."""

TIMEOUT = timedelta(seconds=60)
INSTANTLY = timedelta(milliseconds=1)


class Job(BaseModel):
    """What a plain run is asked."""

    model_config = ConfigDict(frozen=True)

    question: str
    service_ms: dict[str, float]
    """How long each step's service takes, by step, in milliseconds."""

    steps_queue: str = ""
    """The queue of the steps, where a way has one."""


def expected_answer(question: str) -> str:
    """What every way has to answer."""
    return " > ".join((question, *STEPS))


async def served(name: str, text: str, service_ms: float) -> str:
    """The body of every step, wherever it runs."""
    if service_ms:
        await asyncio.sleep(service_ms / 1000)
    return f"{text} > {name}"


@activity.defn
async def plain_step(name: str, text: str, service_ms: float) -> str:
    """A step that has its service beside it."""
    return await served(name, text, service_ms)


class Caller:
    """The step of an agent whose services are elsewhere: it calls them over HTTP, on kept connections."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @activity.defn(name="calling_step")
    async def step(self, name: str, text: str, service_ms: float) -> str:
        """Has the service work, and gives what it answers."""
        reply = await self._http.post("/", json={"name": name, "text": text, "service_ms": service_ms})
        return reply.raise_for_status().text


class _Answering:
    """Answers an update, so that a caller needs one request to start a run and have its result."""

    def __init__(self) -> None:
        self.reply: str | None = None

    async def answer_with(self, job: Job, one: Callable[[str, str, float], Awaitable[str]]) -> str:
        text = job.question
        for name in STEPS:
            text = await one(name, text, job.service_ms[name])
        self.reply = text
        await workflow.wait_condition(workflow.all_handlers_finished)
        return text

    @workflow.update
    async def answer(self) -> str:
        """The result, once it is there."""
        await workflow.wait_condition(lambda: self.reply is not None)
        return self.reply or ""


@workflow.defn(sandboxed=False)
class Together(_Answering):
    """Steps in the process of the workflow."""

    @workflow.run
    async def run(self, job: Job) -> str:
        """The five steps, one after the other."""

        async def one(name: str, text: str, service_ms: float) -> str:
            return await workflow.execute_local_activity(
                plain_step, args=[name, text, service_ms], start_to_close_timeout=TIMEOUT
            )

        return await self.answer_with(job, one)


@workflow.defn(sandboxed=False)
class Calling(_Answering):
    """Steps in the process of the workflow, which call services elsewhere."""

    @workflow.run
    async def run(self, job: Job) -> str:
        """The five steps, one after the other."""

        async def one(name: str, text: str, service_ms: float) -> str:
            return await workflow.execute_local_activity(
                "calling_step",
                args=[name, text, service_ms],
                start_to_close_timeout=TIMEOUT,
                result_type=str,
            )

        return await self.answer_with(job, one)


@workflow.defn(sandboxed=False)
class Apart(_Answering):
    """Steps on a queue whose worker is elsewhere."""

    @workflow.run
    async def run(self, job: Job) -> str:
        """The five steps, one after the other."""

        async def one(name: str, text: str, service_ms: float) -> str:
            return await workflow.execute_activity(
                plain_step,
                args=[name, text, service_ms],
                task_queue=job.steps_queue,
                start_to_close_timeout=TIMEOUT,
            )

        return await self.answer_with(job, one)


@step(kind="vector", expected=INSTANTLY)
async def instant_retrieve(text: str) -> str:
    """A lookup that takes no time."""
    return await served("retrieve", text, 0)


@step(kind="model", expected=INSTANTLY)
async def instant_model(text: str) -> str:
    """A model call that takes no time."""
    return await served("model", text, 0)


@step(kind="tool", expected=INSTANTLY)
async def instant_tool(text: str) -> str:
    """A tool call that takes no time."""
    return await served("tool", text, 0)


@agent(steps={instant_retrieve: 1, instant_model: 2, instant_tool: 2}, sandboxed=False)
class Instant:
    """The five steps as Edgeward has them."""

    @workflow.run
    async def run(self, question: str) -> str:
        """The five steps, one after the other."""
        text = await call(instant_retrieve, question)
        for _ in range(2):
            text = await call(instant_model, text)
            text = await call(instant_tool, text)
        return text


@dataclass(frozen=True)
class Workload:
    """How long the services take, for the plain ways; and the agent of Edgeward that is told the same."""

    service_ms: Mapping[str, float]
    """By step, in milliseconds."""

    agent: Callable[[Any, str], Awaitable[str]]
    """The run method: a question to its answer."""

    @property
    def total_ms(self) -> float:
        """What the services of a run take."""
        return sum(self.service_ms[name] for name in STEPS)


INSTANT = Workload(service_ms=dict.fromkeys(STEPS, 0.0), agent=Instant.run)
"""No service time: what is left is the network and the orchestration."""

application = Application(agents=[Instant], steps=[instant_retrieve, instant_model, instant_tool])
"""What region workers serve for ``INSTANT``."""
