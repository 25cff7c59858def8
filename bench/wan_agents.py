"""The five steps with service times as recorded; without any they are those of ``orchestrator.dev.ways``."""

from datetime import timedelta

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from orchestrator import Application, agent, call, step
    from orchestrator.dev import ways
    from orchestrator.dev.ways import INSTANT, Workload, served

RECORDED_MS = {"retrieve": 25.0, "model": 5_700.0, "tool": 300.0}
"""Service times as recorded. Model: the median generation of TraceLab's 357,161 rounds of coding
agents; tool: the median of its 432,510 tool calls (github.com/uw-syfi/TraceLab, CC BY 4.0). It has no
lookups: that figure is the planner's prior of one with its embedding."""


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


@agent(steps={recorded_retrieve: 1, recorded_model: 2, recorded_tool: 2}, sandboxed=False)
class Recorded:
    @workflow.run
    async def run(self, question: str) -> str:
        text = await call(recorded_retrieve, question)
        for _ in range(2):
            text = await call(recorded_model, text)
            text = await call(recorded_tool, text)
        return text


WORKLOADS = {"instant": INSTANT, "recorded": Workload(service_ms=RECORDED_MS, agent=Recorded.run)}
"""By mode."""

application = Application(
    agents=[*ways.application.agents, Recorded],
    steps=[*ways.application.steps, recorded_retrieve, recorded_model, recorded_tool],
)
