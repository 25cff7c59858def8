"""The same five steps in four ways: as plain Temporal workflows and as Edgeward agents."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from temporalio import activity, workflow

with workflow.unsafe.imports_passed_through():
    import httpx
    from pydantic import BaseModel, ConfigDict

    from orchestrator import Application, agent, call, step

STEPS = ("retrieve", "model", "tool", "model", "tool")
"""What the agent does, in this order; each step needs the answer of the one before."""

RECORDED_MS = {"retrieve": 25.0, "model": 5_700.0, "tool": 300.0}
"""Service times as recorded. Model: the median generation of TraceLab's 357,161 rounds of coding
agents; tool: the median of its 432,510 tool calls (github.com/uw-syfi/TraceLab, CC BY 4.0). It has no
lookups: that figure is the planner's prior of one with its embedding."""

INSTANT_MS = dict.fromkeys(RECORDED_MS, 0.0)
"""No service time: what is left is the network and the orchestration."""

FAR_QUEUE = "wan.far-steps"
TIMEOUT = timedelta(seconds=60)


class Job(BaseModel):
    """What a run is asked."""

    model_config = ConfigDict(frozen=True)

    question: str
    service_ms: dict[str, float]
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
    return await served(name, text, service_ms)


class Caller:
    """The step of an agent whose services are elsewhere: it calls them over HTTP, on kept connections."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    @activity.defn(name="calling_step")
    async def step(self, name: str, text: str, service_ms: float) -> str:
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
        await workflow.wait_condition(lambda: self.reply is not None)
        return self.reply or ""


@workflow.defn(sandboxed=False)
class Together(_Answering):
    """Steps in the process of the workflow."""

    @workflow.run
    async def run(self, job: Job) -> str:
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
        async def one(name: str, text: str, service_ms: float) -> str:
            return await workflow.execute_activity(
                plain_step,
                args=[name, text, service_ms],
                task_queue=job.steps_queue,
                start_to_close_timeout=TIMEOUT,
            )

        return await self.answer_with(job, one)


INSTANTLY = timedelta(milliseconds=1)


@step(kind="vector", expected=INSTANTLY)
async def instant_retrieve(text: str) -> str:
    return await served("retrieve", text, 0)


@step(kind="model", expected=INSTANTLY)
async def instant_model(text: str) -> str:
    return await served("model", text, 0)


@step(kind="tool", expected=INSTANTLY)
async def instant_tool(text: str) -> str:
    return await served("tool", text, 0)


# The second figure is TraceLab's p90. None of them is cancellable while it runs, as in way (a), where
# they are local activities; cancellable ones would be queued, at two local round trips and the server's time.
@step(kind="vector", cancellable=False, expected=timedelta(milliseconds=RECORDED_MS["retrieve"]))
async def recorded_retrieve(text: str) -> str:
    return await served("retrieve", text, RECORDED_MS["retrieve"])


@step(
    kind="model",
    cancellable=False,
    expected=(timedelta(milliseconds=RECORDED_MS["model"]), timedelta(seconds=22.2)),
)
async def recorded_model(text: str) -> str:
    return await served("model", text, RECORDED_MS["model"])


@step(
    kind="tool",
    cancellable=False,
    expected=(timedelta(milliseconds=RECORDED_MS["tool"]), timedelta(seconds=13.6)),
)
async def recorded_tool(text: str) -> str:
    return await served("tool", text, RECORDED_MS["tool"])


@agent(steps={instant_retrieve: 1, instant_model: 2, instant_tool: 2}, sandboxed=False)
class Instant:
    @workflow.run
    async def run(self, question: str) -> str:
        text = await call(instant_retrieve, question)
        for _ in range(2):
            text = await call(instant_model, text)
            text = await call(instant_tool, text)
        return text


@agent(steps={recorded_retrieve: 1, recorded_model: 2, recorded_tool: 2}, sandboxed=False)
class Recorded:
    @workflow.run
    async def run(self, question: str) -> str:
        text = await call(recorded_retrieve, question)
        for _ in range(2):
            text = await call(recorded_model, text)
            text = await call(recorded_tool, text)
        return text


application = Application(
    agents=[Instant, Recorded],
    steps=[
        instant_retrieve,
        instant_model,
        instant_tool,
        recorded_retrieve,
        recorded_model,
        recorded_tool,
    ],
)
