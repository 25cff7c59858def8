"""A step that takes unusually long gets a second dispatch in another place, within a budget."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from orchestrator import EdgeClient
from orchestrator.dispatch import Assignment
from orchestrator.dispatch.steps.handover import InlineSteps
from orchestrator.dispatch.steps.hedging import (
    HEDGE_ACTIVITY,
    MOST_SAVED,
    SIGHTING,
    HedgeBudget,
    hedge_budget,
    may_leave,
)
from orchestrator.fleet import RegionHealth
from orchestrator.fleet.health import LEAST
from orchestrator.placement import Plan, RunTime, Snapshot, StepPlan
from orchestrator.topology import Topology
from tests.dispatch import wanderers
from tests.dispatch.agents import Seen
from tests.dispatch.test_place_again import (
    assignments,
    replays,
    started_with,
    topology,
    with_absent,
    workers,
)
from tests.dispatch.wanderers import Bounded, Browsing, Crawling, application

__all__ = ["topology", "workers"]

PLACES = ["dublin-w", "ashburn-w"]


@pytest.fixture
async def edge(topology: Topology, workers: None) -> AsyncIterator[EdgeClient]:
    known = with_absent(topology, "unused")
    known = Topology(cells=known.cells, regions=known.regions[:-1], links=topology.links)
    async with await EdgeClient.connect(known, application=application, watch=False) as client:
        yield client


@pytest.fixture
def slow() -> Iterator[set[str]]:
    wanderers.cancelled.clear()
    wanderers.begun.clear()
    yield wanderers.slow
    wanderers.slow.clear()


@pytest.fixture
def budget() -> Iterator[HedgeBudget]:
    while hedge_budget.take():
        pass
    yield hedge_budget
    while hedge_budget.take():
        pass


def hedged(plan: Plan, step: str, questions: int) -> Plan:
    """The same plan, with a p95 that was learned for a step."""
    learned = {"hedge_after_ms": 200, "hedge_questions": questions}
    known: StepPlan = plan.root.steps[step].model_copy(update=learned)
    root = plan.root.model_copy(update={"steps": {**plan.root.steps, step: known}})
    return plan.model_copy(update={"root": root})


async def started(edge: EdgeClient, questions: int = 2) -> WorkflowHandle[Any, Seen]:
    plan = hedged(edge.plan(Crawling.run, origin="frankfurt-w"), "crawl", questions)
    assert [place.region for place in plan.root.steps["crawl"].candidates] == PLACES
    return await started_with(edge, plan, Crawling.run, "word")


async def started_inline(edge: EdgeClient) -> WorkflowHandle[Any, Seen]:
    plan = hedged(edge.plan(Browsing.run, origin="dublin-w"), "browse", 2)
    candidates = plan.root.steps["browse"].candidates
    assert [(place.region, place.dispatch) for place in candidates] == [
        ("dublin-w", "inline"),
        ("ashburn-w", "queue"),
    ]
    return await started_with(edge, plan, Browsing.run, "word")


def save(budget: HedgeBudget, hedges: int) -> None:
    for _ in range(34 * hedges):
        budget.earn()


async def questions_of(run: WorkflowHandle[Any, Seen], count: int) -> None:
    """Returns when the run has asked so often."""
    while True:
        history = await run.fetch_history()
        if sum(HEDGE_ACTIVITY.encode() in event.SerializeToString() for event in history.events) >= count:
            return
        await asyncio.sleep(0.01)


async def test_a_step_that_takes_long_runs_elsewhere_too_and_the_loser_is_cancelled(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    slow.add("dublin-w")
    save(budget, 1)
    run = await started(edge)
    result = await run.result()
    assert result.region == "ashburn-w"
    await wanderers.cancelled.wait()
    history = await run.fetch_history()
    first, second = assignments(history)
    assert (first.sequence, first.place, first.hedge) == (1, "dublin-w", False)
    assert (second.sequence, second.place, second.hedge) == (1, "ashburn-w", True)
    assert result.key == f"{run.first_execution_run_id}/1"
    await replays(run, Crawling)


async def test_without_a_budget_a_step_is_waited_for(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    slow.add("dublin-w")
    run = await started(edge, questions=1)
    await questions_of(run, 1)
    assert len(assignments(await run.fetch_history())) == 1
    await run.cancel()
    await replays(run, Crawling)


async def test_a_run_asks_again_whether_its_step_may_be_hedged(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    slow.add("dublin-w")
    run = await started(edge)
    await questions_of(run, 1)
    save(budget, 1)
    assert (await run.result()).region == "ashburn-w"
    await questions_of(run, 2)
    await replays(run, Crawling)


async def test_a_step_that_comes_in_time_is_not_hedged(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    save(budget, 3)
    run = await started(edge)
    assert (await run.result()).region == "dublin-w"
    assert len(assignments(await run.fetch_history())) == 1


def test_the_budget_is_three_of_a_hundred_steps() -> None:
    budget = HedgeBudget()
    assert sum(budget.take() for _ in range(100)) == MOST_SAVED
    made = 0
    for _ in range(1000):
        budget.earn()
        made += budget.take()
    assert made == 30
    for _ in range(1000):
        budget.earn()
    assert sum(budget.take() for _ in range(100)) == MOST_SAVED


def test_what_is_late_again_and_again_tells_of_its_region(budget: HedgeBudget) -> None:
    health = RegionHealth()
    for _ in range(LEAST):
        assert not may_leave("dublin-w", ["ashburn-w"], health, question=1)
        assert health.troubled() == {}
        may_leave("dublin-w", ["ashburn-w"], health, question=SIGHTING)
    assert health.troubled() == {"dublin-w": "its steps take unusually long"}
    # now without a budget, as from a region that is dead; but not to one that is no better
    assert may_leave("dublin-w", ["ashburn-w"], health, question=1)
    assert not may_leave("dublin-w", [], health, question=1)


def test_where_nothing_is_known_to_be_unusual_no_budget_is_spent(budget: HedgeBudget) -> None:
    health = RegionHealth()
    save(budget, 1)
    for question in range(1, 7):
        assert not may_leave("ashburn-w", ["dublin-w"], health, question=question, moved=True)
    assert health.troubled() == {}
    assert may_leave("dublin-w", ["ashburn-w"], health, question=1)


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
    seen = {(step, region.name): run_time for region in known.regions for step in ("crawl", "browse")}
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
    inline = planner.plan("Browsing", "dublin-w", homes=["dublin-w"]).root.steps["browse"]
    assert inline.chosen.dispatch == "inline"
    assert (inline.hedge_after_ms is not None) == wanted


async def test_an_inline_step_that_takes_long_leaves_its_home(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    slow.add("dublin-w")
    run = await started_inline(edge)
    while not wanderers.begun:
        await asyncio.sleep(0.01)
    save(budget, 1)  # in time for the first question, or for a later one
    result = await run.result()
    assert result.region == "ashburn-w"
    assert wanderers.begun == PLACES
    assert wanderers.cancelled.is_set()
    assert result.key == f"{run.first_execution_run_id}/1"
    [second] = assignments(await run.fetch_history())
    [earlier] = second.earlier
    assert (earlier.place, earlier.reason) == ("dublin-w", "it took unusually long there")
    await replays(run, Browsing)


async def test_an_inline_step_that_comes_in_time_stays(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    save(budget, 3)
    run = await started_inline(edge)
    assert (await run.result()).region == "dublin-w"
    assert assignments(await run.fetch_history()) == []


@pytest.mark.parametrize(("attempts", "leaves"), [(1, False), (2, True), (0, True)])
async def test_an_inline_step_that_may_begin_once_stays(
    edge: EdgeClient, monkeypatch: pytest.MonkeyPatch, attempts: int, leaves: bool
) -> None:
    told: list[Assignment] = []
    hand_over = InlineSteps.hand_over

    def noting(steps: InlineSteps, activity_id: str, assignment: Assignment) -> None:
        told.append(assignment)
        hand_over(steps, activity_id, assignment)

    monkeypatch.setattr(InlineSteps, "hand_over", noting)
    plan = hedged(edge.plan(Bounded.run, origin="dublin-w"), "browse", 2)
    run = await started_with(edge, plan, Bounded.run, attempts)
    assert (await run.result()).dispatch == "inline"
    [assignment] = told
    assert (assignment.leave_after is not None) == leaves
    assert (assignment.leave_to == ("ashburn-w",)) == leaves


async def test_in_a_home_that_is_set_aside_an_inline_step_is_not_begun(
    edge: EdgeClient, slow: set[str], budget: HedgeBudget
) -> None:
    slow.add("dublin-w")
    save(budget, LEAST)
    for run in [await started_inline(edge) for _ in range(LEAST)]:
        await run.result()
    wanderers.begun.clear()
    run = await started_inline(edge)
    assert (await run.result()).region == "ashburn-w"
    assert wanderers.begun == ["ashburn-w"]
    [second] = assignments(await run.fetch_history())
    assert [one.reason for one in second.earlier] == ["the region is set aside"]
    await replays(run, Browsing)
