"""What a run may use at most: reserved before each call, shared with sub-agents, never exceeded."""

import uuid
from datetime import timedelta

import pytest
from temporalio.client import WorkflowFailureError

from orchestrator import Budget, EdgeClient, EdgewardPlugin
from orchestrator.client import EdgeRun
from orchestrator.errors import ConfigurationError
from tests.dispatch import spenders
from tests.dispatch.leipzig import HOME, edge, topology, worker
from tests.dispatch.spenders import (
    Boss,
    Buyer,
    Endless,
    Frugal,
    Plain,
    Secretive,
    Speaker,
    Stubborn,
    application,
)
from tests.dispatch.test_placed_runs import innermost
from tests.dispatch.test_replay import history_of, other_topology, replayer

__all__ = ["edge", "topology", "worker"]


def new_id() -> str:
    return uuid.uuid4().hex


async def replays(edge: EdgeClient, run: EdgeRun[object], agent: type) -> None:
    plugin = EdgewardPlugin(other_topology(), application=application)
    await replayer(plugin, agent).replay_workflow(await history_of(edge, run.id))


@pytest.mark.parametrize(
    ("given", "done"),
    [(None, 10), (Budget(steps=3), 3), (Budget(steps=100), 10), (Budget(steps=0), 0)],
    ids=["declared", "narrower", "not wider", "nothing"],
)
async def test_a_run_makes_no_more_calls_than_its_budget_has(
    edge: EdgeClient, given: Budget | None, done: int
) -> None:
    run = await edge.start(Frugal.run, 50, origin=HOME, budget=given, id=new_id())
    assert await run.result() == done
    assert spenders.ran[run.id] == done
    await replays(edge, run, Frugal)


async def test_steps_of_a_run_without_a_budget_stay_inline(edge: EdgeClient) -> None:
    assert await edge.execute(Plain.run, origin=HOME) == ["inline", "inline"]
    assert await edge.execute(Plain.run, origin=HOME, budget=Budget(steps=2)) == ["inline", "inline"]


async def test_steps_under_a_budget_of_money_are_queued_so_that_none_runs_again_unseen(
    edge: EdgeClient,
) -> None:
    run = await edge.start(Buyer.run, 3, origin=HOME, budget=Budget(price=0.3), id=new_id())
    assert await run.result() == ["queue"] * 3
    await replays(edge, run, Buyer)


async def test_a_call_that_costs_too_much_is_not_made(edge: EdgeClient) -> None:
    run = edge.submit(Buyer.run, 9, origin=HOME, budget=Budget(price=0.25), id=new_id())
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    error = innermost(failed.value)
    assert error.type == "BudgetExceededError"
    assert "step buy" in error.message and "0.05 of 0.25 are left" in error.message
    assert spenders.ran[run.id] == 2


async def test_retries_count(edge: EdgeClient) -> None:
    run = await edge.start(Stubborn.run, origin=HOME, budget=Budget(steps=3), id=new_id())
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    assert innermost(failed.value).type == "BudgetExceededError"
    assert spenders.attempts[run.id] == [(attempt, f"{run.run_id}/1") for attempt in (1, 2, 3)]
    await replays(edge, run, Stubborn)


async def test_under_a_budget_a_step_is_tried_as_often_as_its_policy_says(edge: EdgeClient) -> None:
    run = await edge.start(Stubborn.run, origin=HOME, budget=Budget(steps=30, price=1.0), id=new_id())
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    assert innermost(failed.value).type == "RuntimeError"
    assert [attempt for attempt, _ in spenders.attempts[run.id]] == [1, 2, 3, 4]
    await replays(edge, run, Stubborn)


async def test_calls_side_by_side_generate_no_more_than_the_budget(edge: EdgeClient) -> None:
    run = await edge.start(Speaker.run, 5, origin=HOME, budget=Budget(tokens=250), id=new_id())
    assert sorted(await run.result(), key=str) == [100, 100, *["BudgetExceededError"] * 3]
    assert spenders.generated[run.id] == 200
    await replays(edge, run, Speaker)


async def test_what_a_step_declares_bounds_its_models_without_a_budget_too(edge: EdgeClient) -> None:
    assert await edge.execute(Speaker.run, 1, origin=HOME) == [100]


async def test_a_step_that_does_not_say_what_it_generates_may_not_under_a_budget(edge: EdgeClient) -> None:
    assert await edge.execute(Secretive.run, origin=HOME) is None
    with pytest.raises(WorkflowFailureError) as failed:
        await edge.execute(Secretive.run, origin=HOME, budget=Budget(tokens=1000))
    error = innermost(failed.value)
    assert error.type == "BudgetExceededError"
    assert "@step(tokens=...)" in error.message


@pytest.mark.parametrize(
    ("steps", "used"),
    [
        (16, [10, 2, 2, 2]),  # the first declares ten; the others and the run itself share what is left
        (7, [7, 0, 0, 0]),  # and there may be nothing left: then they do not start
    ],
)
async def test_sub_agents_side_by_side_share_a_budget(edge: EdgeClient, steps: int, used: list[int]) -> None:
    run = await edge.start(Boss.run, origin=HOME, budget=Budget(steps=steps), id=new_id())
    assert await run.result() == used
    assert spenders.ran[run.id] == steps
    await replays(edge, run, Boss)


async def test_a_run_that_goes_on_as_new_has_what_is_left(edge: EdgeClient) -> None:
    run = await edge.start(Endless.run, 0, origin=HOME, budget=Budget(steps=3), id=new_id())
    assert await run.result() == 3
    assert spenders.ran[run.id] == 3


@pytest.mark.parametrize("wrong", [{"steps": -1}, {"price": float("nan")}, {"duration": timedelta()}])
def test_a_budget_that_says_nothing_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        Budget(**wrong)
