"""Inline steps learn their assignment from their run, in memory; without one they are refused."""

import dataclasses
import gc

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from orchestrator import EdgeClient, EdgewardPlugin
from orchestrator.dispatch.headers import Assignment, with_assignment
from orchestrator.dispatch.steps.handover import InlineSteps, assignment_in, forget_assignment
from orchestrator.requirements import Residency
from tests.dispatch.agents import Stumbling, application
from tests.dispatch.test_replay import history_of, other_topology, replayer

ASSIGNMENT = Assignment(sequence=1, root_workflow_id="w", residency=Residency.of("EU"), place="frankfurt")


def local(run_id: str, activity_id: str = "1") -> activity.Info:
    return dataclasses.replace(
        ActivityEnvironment().info, is_local=True, workflow_run_id=run_id, activity_id=activity_id
    )


def test_a_step_that_is_tried_again_finds_its_assignment() -> None:
    run = InlineSteps("of one step")
    run.hand_over("1", ASSIGNMENT)
    assert assignment_in({}, local("of one step")) is ASSIGNMENT
    assert assignment_in({}, local("of one step")) is ASSIGNMENT
    forget_assignment(local("of one step"))
    with pytest.raises(ApplicationError, match="residency cannot be checked"):
        assignment_in({}, local("of one step"))


def test_a_step_of_a_planned_run_without_assignment_is_refused() -> None:
    run = InlineSteps("with a plan")
    run.hand_over("1", ASSIGNMENT)
    with pytest.raises(ApplicationError, match="residency cannot be checked") as refused:
        assignment_in({}, local("with a plan", activity_id="2"))
    assert refused.value.non_retryable
    assert refused.value.type == "PlacementError"


def test_a_local_activity_of_a_run_without_a_plan_has_none() -> None:
    assert assignment_in({}, local("without a plan")) is None


def test_what_a_run_handed_over_goes_with_it() -> None:
    run = InlineSteps("that leaves")
    run.hand_over("1", ASSIGNMENT)
    del run
    gc.collect()
    assert assignment_in({}, local("that leaves")) is None


def test_a_queued_step_reads_its_header() -> None:
    queued = dataclasses.replace(local("any"), is_local=False)
    assert assignment_in(with_assignment({}, ASSIGNMENT), queued) == ASSIGNMENT
    assert assignment_in({}, queued) is None


async def test_an_inline_step_keeps_its_number_when_a_timer_comes_between(edge: EdgeClient) -> None:
    run = await edge.start(Stumbling.run, origin="frankfurt")
    stumbled, paid = await run.result()
    assert (stumbled.dispatch, stumbled.key) == ("inline", f"{run.run_id}/1")
    assert (paid.dispatch, paid.key) == ("queue", f"{run.run_id}/2")
    history = await history_of(edge, run.id)
    assert any(event.HasField("timer_fired_event_attributes") for event in history.events)
    [scheduled] = [
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert scheduled.activity_id == "2"
    await replayer(EdgewardPlugin(other_topology(), application=application), Stumbling).replay_workflow(
        history
    )
