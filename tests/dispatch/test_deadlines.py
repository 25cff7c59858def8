"""The deadline of a run, on a real server: passed on to steps, kept by the run itself, replayed."""

import uuid
from datetime import timedelta

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from orchestrator import Budget, EdgeClient
from orchestrator.errors import ConfigurationError
from tests.dispatch import spenders
from tests.dispatch.leipzig import HOME, edge, topology, worker
from tests.dispatch.spenders import Asleep, Deaf, Late, Timed, TimedAbove
from tests.dispatch.test_budgets import replays
from tests.dispatch.test_placed_runs import innermost

__all__ = ["edge", "topology", "worker"]

SOON = timedelta(seconds=1)
AFTER_MINUTES = timedelta(seconds=20)
"""Less than the steps' own timeout, and more than they take on any machine."""


async def test_a_run_ends_at_the_deadline_of_its_agent_and_its_step_is_cancelled(edge: EdgeClient) -> None:
    run = await edge.start(Late.run, origin=HOME, id=uuid.uuid4().hex)
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    error = failed.value.cause
    assert getattr(error, "type", None) == "DeadlineExceededError", error
    assert "Late is not done" in str(error)
    await spenders.ended[run.id].wait()
    described = await run.handle.describe()
    assert described.status is WorkflowExecutionStatus.FAILED
    await replays(edge, run, Late)


@pytest.mark.parametrize("how", [{"deadline": SOON}, {"budget": Budget(duration=SOON)}])
async def test_a_run_that_waits_for_no_step_ends_too(edge: EdgeClient, how: dict[str, object]) -> None:
    run = edge.submit(Asleep.run, origin=HOME, **how)
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    assert innermost(failed.value).type == "DeadlineExceededError"
    await replays(edge, run, Asleep)


async def test_no_step_starts_after_the_deadline(edge: EdgeClient) -> None:
    run = await edge.start(Deaf.run, origin=HOME, deadline=SOON, id=uuid.uuid4().hex)
    with pytest.raises(WorkflowFailureError) as failed:
        await run.result()
    assert innermost(failed.value).type == "DeadlineExceededError"
    assert spenders.ran[run.id] == 0
    await replays(edge, run, Deaf)


@pytest.mark.parametrize("agent", [Timed, TimedAbove])
async def test_steps_have_what_is_left_of_the_run(
    edge: EdgeClient, agent: type[Timed] | type[TimedAbove]
) -> None:
    own = await edge.execute(agent.run, origin=HOME)
    assert all(left > AFTER_MINUTES.total_seconds() for left in own)
    run = await edge.start(agent.run, origin=HOME, deadline=AFTER_MINUTES)
    inline, queued = await run.result()
    assert 0 < queued <= inline <= AFTER_MINUTES.total_seconds()
    await replays(edge, run, agent)


async def test_a_deadline_is_positive(edge: EdgeClient) -> None:
    with pytest.raises(ConfigurationError):
        await edge.start(Asleep.run, origin=HOME, deadline=timedelta())
