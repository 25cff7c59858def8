"""A step that takes unusually long gets a second dispatch in another place, within a budget."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from temporalio.client import WorkflowHandle

from orchestrator import EdgeClient, EdgewardPlugin
from orchestrator.dispatch import starting
from orchestrator.dispatch.steps.hedging import HEDGE_ACTIVITY, MOST_SAVED, HedgeBudget, hedge_budget
from orchestrator.placement import Plan, RunTime, Snapshot, StepPlan
from orchestrator.topology import Topology
from tests.dispatch import wanderers
from tests.dispatch.agents import Seen
from tests.dispatch.test_place_again import assignments, topology, with_absent, workers
from tests.dispatch.test_replay import other_topology, replayer
from tests.dispatch.wanderers import Crawling, application

__all__ = ["topology", "workers"]


@pytest.fixture
async def edge(topology: Topology, workers: None) -> AsyncIterator[EdgeClient]:
    known = with_absent(topology, "unused")
    known = Topology(cells=known.cells, regions=known.regions[:-1], links=topology.links)
    async with await EdgeClient.connect(known, application=application, watch=False) as client:
        yield client


@pytest.fixture
def slow() -> Iterator[set[str]]:
    wanderers.cancelled.clear()
    yield wanderers.slow
    wanderers.slow.clear()


@pytest.fixture
def budget() -> Iterator[HedgeBudget]:
    while hedge_budget.take():
        pass
    yield hedge_budget
    while hedge_budget.take():
        pass


def hedged(plan: Plan, after_ms: float) -> Plan:
    """The same plan, with a p95 that was learned for its step."""
    step: StepPlan = plan.root.steps["crawl"].model_copy(update={"hedge_after_ms": after_ms})
    root = plan.root.model_copy(update={"steps": {**plan.root.steps, "crawl": step}})
    return plan.model_copy(update={"root": root})


async def started(edge: EdgeClient) -> WorkflowHandle[Crawling, Seen]:
    plan = hedged(edge.plan(Crawling.run, origin="frankfurt-w"), after_ms=200)
    assert [candidate.region for candidate in plan.root.steps["crawl"].candidates] == [
        "dublin-w",
        "ashburn-w",
    ]
    with starting(plan):
        return await edge.cell("europe").start_workflow(
            Crawling.run, "word", id=f"crawling-{id(plan)}", task_queue="frankfurt-w.agents"
        )


async def test_a_step_that_takes_long_runs_elsewhere_too_and_the_loser_is_cancelled(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    slow.add("dublin-w")
    for _ in range(34):
        budget.earn()
    run = await started(edge)
    result = await run.result()
    assert result.region == "ashburn-w"
    await wanderers.cancelled.wait()
    history = await run.fetch_history()
    first, second = assignments(history)
    assert (first.sequence, first.place, first.hedge) == (1, "dublin-w", False)
    assert (second.sequence, second.place, second.hedge) == (1, "ashburn-w", True)
    assert result.key == f"{run.first_execution_run_id}/1"
    plugin = EdgewardPlugin(other_topology(), application=application)
    await replayer(plugin, Crawling).replay_workflow(history)


async def test_without_a_budget_a_step_is_waited_for(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    slow.add("dublin-w")
    run = await started(edge)

    async def asked() -> bool:
        history = await run.fetch_history()
        return any(HEDGE_ACTIVITY.encode() in event.SerializeToString() for event in history.events)

    while not await asked():
        await asyncio.sleep(0.01)
    assert len(assignments(await run.fetch_history())) == 1
    await run.cancel()
    plugin = EdgewardPlugin(other_topology(), application=application)
    await replayer(plugin, Crawling).replay_workflow(await run.fetch_history())


async def test_a_step_that_comes_in_time_is_not_hedged(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    for _ in range(100):
        budget.earn()
    run = await started(edge)
    assert (await run.result()).region == "dublin-w"
    assert len(assignments(await run.fetch_history())) == 1


def test_the_budget_is_three_of_a_hundred_steps() -> None:
    budget = HedgeBudget()
    made = 0
    for _ in range(1000):
        budget.earn()
        made += budget.take()
    assert made == 30
    for _ in range(1000):
        budget.earn()
    assert sum(budget.take() for _ in range(100)) == MOST_SAVED


@pytest.mark.parametrize(
    ("run_time", "wanted"),
    [
        (RunTime(200, 900, samples=50), True),
        (RunTime(200, 900, samples=5), False),  # not learned yet
        (RunTime(2, 9, samples=50), False),  # not worth the timer
    ],
)
def test_a_plan_says_when_a_hedge_is_wanted(topology: Topology, run_time: RunTime, wanted: bool) -> None:
    known = with_absent(topology, "here")
    seen = {("crawl", region.name): run_time for region in known.regions}
    from orchestrator.dispatch import RunPlanner

    planner = RunPlanner(
        known,
        agents=application.agent_definitions,
        steps=application.step_definitions,
        snapshot=lambda: Snapshot(run_times=seen),
    )
    plan = planner.plan("Crawling", "frankfurt-w", homes=["frankfurt-w"])
    step, charge = plan.root.steps["crawl"], plan.root.steps["charge"]
    assert (step.hedge_after_ms is not None) == wanted
    if step.hedge_after_ms is not None:
        assert step.hedge_after_ms > step.chosen.cost.predicted_ms
    assert charge.hedge_after_ms is None  # it must not run twice
